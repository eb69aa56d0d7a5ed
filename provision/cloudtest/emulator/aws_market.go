package emulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// awsType is a machine type of this cloud: a few of the real ones, with prices of
// about their size.
type awsType struct {
	name      string
	arch      string // as EC2 names it
	cpus      int
	memory    int // MiB
	gpu       string
	gpus      int
	gpuMemory int     // MiB of each
	price     float64 // USD per hour but in the west of Europe, where it is a little more
	spot      float64 // the lowest of its zones
}

func awsTypes() []awsType {
	return []awsType{
		{"c7i.xlarge", "x86_64", 4, 8192, "", 0, 0, 0.1785, 0.07},
		{"g4dn.xlarge", "x86_64", 4, 16384, "T4", 1, 16384, 0.526, 0.21},
		{"g4dn.12xlarge", "x86_64", 48, 196608, "T4", 4, 16384, 3.912, 1.5},
		{"g6.xlarge", "x86_64", 4, 16384, "L4", 1, 22888, 0.8048, 0.3},
		{"m7g.large", "arm64", 2, 8192, "", 0, 0, 0.0816, 0.03},
		{"p4d.24xlarge", "x86_64", 96, 1179648, "A100", 8, 40960, 21.957642, 7.5},
		{"p4de.24xlarge", "x86_64", 96, 1179648, "A100", 8, 81920, 27.44705, 9},
		{"t3.large", "x86_64", 2, 8192, "", 0, 0, 0.0832, 0.03},
		{"t3.micro", "x86_64", 2, 1024, "", 0, 0, 0.0104, 0.004},
	}
}

// awsDearer is what the prices in a region are multiplied with.
func awsDearer(region string) float64 {
	if region == "eu-west-1" {
		return 1.1
	}
	return 1
}

func getCallerIdentity(c *awsCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		if e := asAWS(err); e.code == "RequestExpired" {
			return nil, apiError{http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired"}
		}
		return nil, err
	}
	type identity struct {
		Account string `xml:"Account"`
		Arn     string `xml:"Arn"`
		User    string `xml:"UserId"`
	}
	return struct {
		Namespace string   `xml:"xmlns,attr"`
		Result    identity `xml:"GetCallerIdentityResult"`
	}{
		Namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
		Result:    identity{account, "arn:aws:iam::" + account + ":user/emulated", "AIDAEMULATEDUSER00001"},
	}, nil
}

func describeRegions(c *awsCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	type region struct {
		Name  string `xml:"regionName"`
		OptIn string `xml:"optInStatus"`
	}
	answer := struct {
		awsResponse
		Regions []region `xml:"regionInfo>item"`
	}{awsResponse: awsRespond()}
	for _, name := range Regions(AWS) {
		answer.Regions = append(answer.Regions, region{name, "opt-in-not-required"})
	}
	return answer, nil
}

func describeVpcs(c *awsCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	if err := c.dry(); err != nil {
		return nil, err
	}
	id := vpcID(c.region)
	here := len(Zones(AWS, c.region)) > 0
	for name, values := range c.filters() {
		switch name {
		case "is-default", "isDefault":
			here = here && slices.Contains(values, "true")
		case "vpc-id":
			here = here && slices.Contains(values, id)
		default:
			return nil, badParameter("The filter '%s' is invalid", name)
		}
	}
	type vpc struct {
		ID      string `xml:"vpcId"`
		Default bool   `xml:"isDefault"`
	}
	all := []vpc{}
	if here {
		all = append(all, vpc{id, true})
	}
	return struct {
		awsResponse
		Vpcs []vpc `xml:"vpcSet>item"`
	}{awsRespond(), all}, nil
}

func describeSubnets(c *awsCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	if err := c.dry(); err != nil {
		return nil, err
	}
	type subnet struct {
		ID     string `xml:"subnetId"`
		VPC    string `xml:"vpcId"`
		ZoneID string `xml:"availabilityZoneId"`
	}
	filters := c.filters()
	answer := struct {
		awsResponse
		Subnets []subnet `xml:"subnetSet>item"`
	}{awsResponse: awsRespond()}
	for _, zone := range Zones(AWS, c.region) {
		s := subnet{subnetID(zone), vpcID(c.region), zone}
		here := true
		for name, values := range filters {
			switch name {
			case "subnet-id":
				here = here && slices.Contains(values, s.ID)
			case "vpc-id":
				here = here && slices.Contains(values, s.VPC)
			default:
				return nil, badParameter("The filter '%s' is invalid", name)
			}
		}
		if here {
			answer.Subnets = append(answer.Subnets, s)
		}
	}
	return answer, nil
}

func describeInstanceTypes(c *awsCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	for name, values := range c.filters() {
		// What this cloud has passes both.
		if !(name == "bare-metal" && slices.Equal(values, []string{"false"}) ||
			name == "supported-virtualization-type" && slices.Equal(values, []string{"hvm"})) {
			return nil, badParameter("The filter '%s' is invalid", name)
		}
	}
	page, next, err := pageOf(c, awsTypes(), 4)
	if err != nil {
		return nil, err
	}
	type gpu struct {
		Name         string `xml:"name"`
		Manufacturer string `xml:"manufacturer"`
		Count        int    `xml:"count"`
		Memory       int    `xml:"memoryInfo>sizeInMiB"`
	}
	type gpus struct {
		All []gpu `xml:"gpus>item"`
	}
	type typ struct {
		Name  string   `xml:"instanceType"`
		Usage []string `xml:"supportedUsageClasses>item"`
		Arch  []string `xml:"processorInfo>supportedArchitectures>item"`
		CPUs  int      `xml:"vCpuInfo>defaultVCpus"`
		MiB   int      `xml:"memoryInfo>sizeInMiB"`
		GPU   *gpus    `xml:"gpuInfo"`
	}
	answer := struct {
		awsResponse
		Types []typ  `xml:"instanceTypeSet>item"`
		Next  string `xml:"nextToken,omitempty"`
	}{awsResponse: awsRespond(), Next: next}
	for _, t := range page {
		one := typ{t.name, []string{"on-demand", "spot"}, []string{t.arch}, t.cpus, t.memory, nil}
		if t.gpus > 0 {
			one.GPU = &gpus{[]gpu{{t.gpu, "NVIDIA", t.gpus, t.gpuMemory}}}
		}
		answer.Types = append(answer.Types, one)
	}
	return answer, nil
}

// offered is a type in a zone.
type offered struct {
	Type     string `xml:"instanceType"`
	Location string `xml:"location"`
	By       string `xml:"locationType"`
}

// awsOfferings are all types in all zones of a region; the big ones are not in the
// first.
func awsOfferings(region string) []offered {
	var all []offered
	for n, zone := range Zones(AWS, region) {
		for _, t := range awsTypes() {
			if n > 0 || t.cpus < 96 {
				all = append(all, offered{t.name, zone, "availability-zone-id"})
			}
		}
	}
	return all
}

func describeInstanceTypeOfferings(c *awsCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	if by := c.value("LocationType"); by != "availability-zone-id" {
		return nil, badParameter("location type '%s'", by)
	}
	page, next, err := pageOf(c, awsOfferings(c.region), 10)
	if err != nil {
		return nil, err
	}
	return struct {
		awsResponse
		Offerings []offered `xml:"instanceTypeOfferingSet>item"`
		Next      string    `xml:"nextToken,omitempty"`
	}{awsRespond(), page, next}, nil
}

func describeSpotPriceHistory(c *awsCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	for _, name := range []string{"StartTime", "EndTime"} {
		if s := c.value(name); s != "" {
			if _, err := time.Parse(time.RFC3339, s); err != nil {
				return nil, badParameter("Value (%s) for parameter %s is invalid", s, name)
			}
		}
	}
	if p := c.list("ProductDescription"); !slices.Equal(p, []string{"Linux/UNIX"}) {
		return nil, badParameter("product descriptions %q", p)
	}
	type price struct {
		Type    string `xml:"instanceType"`
		Product string `xml:"productDescription"`
		Price   string `xml:"spotPrice"`
		At      string `xml:"timestamp"`
		ZoneID  string `xml:"availabilityZoneId"`
	}
	var all []price
	for n, o := range awsOfferings(c.region) {
		for _, t := range awsTypes() {
			if t.name == o.Type {
				// The first zone is the cheapest.
				usd := t.spot * awsDearer(c.region) * (1 + 0.1*float64(slices.Index(Zones(AWS, c.region), o.Location)))
				all = append(all, price{o.Type, "Linux/UNIX", strconv.FormatFloat(usd, 'f', 6, 64), awsTime(time.Unix(1e9+int64(n), 0)), o.Location})
			}
		}
	}
	page, next, err := pageOf(c, all, 10)
	if err != nil {
		return nil, err
	}
	return struct {
		awsResponse
		Prices []price `xml:"spotPriceHistorySet>item"`
		Next   string  `xml:"nextToken"` // EC2 gives an empty one at the end
	}{awsRespond(), page, next}, nil
}

// awsQuotas are the limits of the account in virtual CPUs, by their codes. Those
// that were never changed have only a default.
func awsQuotas() (applied, standard map[string]float64) {
	return map[string]float64{"L-1216C47A": 640, "L-34B43A08": 640, "L-DB2E81BA": 64, "L-3819A6DF": 64},
		map[string]float64{"L-1216C47A": 5, "L-34B43A08": 5, "L-DB2E81BA": 0, "L-3819A6DF": 0, "L-417A185B": 0, "L-7212CCBC": 0, "L-C4BD4855": 0}
}

func getQuota(operation string, body []byte) (any, error) {
	var in struct{ ServiceCode, QuotaCode string }
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, apiError{http.StatusBadRequest, "SerializationException", err.Error()}
	}
	applied, standard := awsQuotas()
	values := applied
	if operation == "GetAWSDefaultServiceQuota" {
		values = standard
	}
	value, ok := values[in.QuotaCode]
	if !ok || in.ServiceCode != "ec2" {
		return nil, apiError{http.StatusBadRequest, "NoSuchResourceException", "The request failed because the specified service does not exist."}
	}
	return map[string]any{"Quota": map[string]any{"ServiceCode": "ec2", "QuotaCode": in.QuotaCode, "Value": value}}, nil
}

func getProducts(body []byte) (any, error) {
	var in struct {
		ServiceCode string
		Filters     []struct{ Field, Type, Value string }
		NextToken   string
		MaxResults  int
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, apiError{http.StatusBadRequest, "SerializationException", err.Error()}
	}
	if in.ServiceCode != "AmazonEC2" {
		return nil, apiError{http.StatusBadRequest, "NotFoundException", "The service " + in.ServiceCode + " is not there"}
	}
	region := ""
	fixed := map[string]string{"operatingSystem": "Linux", "preInstalledSw": "NA", "tenancy": "Shared", "capacitystatus": "Used", "marketoption": "OnDemand"}
	for _, f := range in.Filters {
		switch {
		case f.Type != "TERM_MATCH":
			return nil, apiError{http.StatusBadRequest, "InvalidParameterException", "filter type " + f.Type}
		case f.Field == "regionCode":
			region = f.Value
		case fixed[f.Field] == "":
			return nil, apiError{http.StatusBadRequest, "InvalidParameterException", "filter " + f.Field}
		case fixed[f.Field] != f.Value:
			return map[string]any{"FormatVersion": "aws_v1", "PriceList": []string{}}, nil
		}
	}
	var all []string
	for _, t := range awsTypes() {
		if len(Zones(AWS, region)) == 0 {
			break
		}
		product, err := json.Marshal(map[string]any{
			"product": map[string]any{"attributes": map[string]string{"instanceType": t.name, "regionCode": region}},
			"terms": map[string]any{"OnDemand": map[string]any{"term": map[string]any{"priceDimensions": map[string]any{"rate": map[string]any{
				"unit": "Hrs", "pricePerUnit": map[string]string{"USD": strconv.FormatFloat(t.price*awsDearer(region), 'f', 10, 64)},
			}}}}},
		})
		if err != nil {
			return nil, err
		}
		all = append(all, string(product))
	}
	page, next, err := cut(all, in.NextToken, 4)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"FormatVersion": "aws_v1", "PriceList": page}
	if next != "" {
		answer["NextToken"] = next
	}
	return answer, nil
}

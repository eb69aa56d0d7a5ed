package emulator

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"
)

// ec2Actions are the actions of EC2 that this cloud knows.
func ec2Actions() map[string]awsAction {
	return map[string]awsAction{
		"DescribeInstances":             describeInstances,
		"TerminateInstances":            terminateInstances,
		"CreateTags":                    createTags,
		"DescribeVolumes":               describeVolumes,
		"DeleteVolume":                  deleteThing("aws_ebs_volume", "VolumeId", "InvalidVolume.NotFound", "VolumeInUse"),
		"DescribeKeyPairs":              describeKeyPairs,
		"DeleteKeyPair":                 deleteThing("aws_key_pair", "KeyName", "", ""),
		"DescribeSecurityGroups":        describeSecurityGroups,
		"DeleteSecurityGroup":           deleteThing("aws_security_group", "GroupId", "InvalidGroup.NotFound", "DependencyViolation"),
		"DescribePlacementGroups":       describePlacementGroups,
		"DeletePlacementGroup":          deleteThing("aws_placement_group", "GroupName", "InvalidPlacementGroup.Unknown", "InvalidPlacementGroup.InUse"),
		"DescribeRegions":               describeRegions,
		"DescribeVpcs":                  describeVpcs,
		"DescribeSubnets":               describeSubnets,
		"DescribeInstanceTypes":         describeInstanceTypes,
		"DescribeInstanceTypeOfferings": describeInstanceTypeOfferings,
		"DescribeSpotPriceHistory":      describeSpotPriceHistory,

		// Things are created through Terraform alone; these only say whether they could be.
		"RunInstances":                  onlyDry("RunInstances", "ImageId", "InstanceType", "MinCount", "MaxCount", "ClientToken", "TagSpecification."),
		"CreateSecurityGroup":           onlyDry("CreateSecurityGroup", "GroupName", "GroupDescription"),
		"AuthorizeSecurityGroupIngress": onlyDry("AuthorizeSecurityGroupIngress", "GroupId", "IpProtocol", "FromPort", "ToPort", "CidrIp"),
		"ImportKeyPair":                 onlyDry("ImportKeyPair", "KeyName", "PublicKeyMaterial"),
	}
}

// awsResponse is what every answer of EC2 has.
type awsResponse struct {
	Namespace string `xml:"xmlns,attr"`
	RequestID string `xml:"requestId"`
}

func awsRespond() awsResponse {
	return awsResponse{Namespace: "http://ec2.amazonaws.com/doc/2016-11-15/", RequestID: requestID()}
}

type xmlTag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

func tagsOf(t Thing) []xmlTag {
	var tags []xmlTag
	for k, v := range t.Tags {
		tags = append(tags, xmlTag{k, v})
	}
	sort.Slice(tags, func(i, j int) bool { return tags[i].Key < tags[j].Key })
	return tags
}

type xmlState struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

// awsState names an instance's state as EC2 does.
func awsState(s State) xmlState {
	switch s {
	case Pending:
		return xmlState{0, "pending"}
	case Running:
		return xmlState{16, "running"}
	case Terminating:
		return xmlState{32, "shutting-down"}
	case Stopped:
		return xmlState{80, "stopped"}
	}
	return xmlState{48, "terminated"}
}

type xmlInstance struct {
	ID        string        `xml:"instanceId"`
	Image     string        `xml:"imageId"`
	State     xmlState      `xml:"instanceState"`
	Type      string        `xml:"instanceType"`
	Launched  string        `xml:"launchTime"`
	Placement xmlPlace      `xml:"placement"`
	Reason    *xmlReason    `xml:"stateReason"`
	Lifecycle string        `xml:"instanceLifecycle,omitempty"`
	Tags      []xmlTag      `xml:"tagSet>item"`
	Disks     []xmlDisk     `xml:"blockDeviceMapping>item"`
	CPU       xmlCPUOptions `xml:"cpuOptions"`
}

type xmlPlace struct {
	Zone   string `xml:"availabilityZone"`
	ZoneID string `xml:"availabilityZoneId"`
}

type xmlReason struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type xmlDisk struct {
	Device string `xml:"deviceName"`
	Volume string `xml:"ebs>volumeId"`
	Delete bool   `xml:"ebs>deleteOnTermination"`
}

type xmlCPUOptions struct {
	Cores   int `xml:"coreCount"`
	Threads int `xml:"threadsPerCore"`
}

func instanceXML(t Thing) xmlInstance {
	i := xmlInstance{
		ID: t.ID, Image: "ami-0123456789abcdef0", State: awsState(t.State), Type: t.Type, Launched: awsTime(t.CreatedAt),
		Placement: xmlPlace{zoneName(t.Zone), t.Zone}, Tags: tagsOf(t),
	}
	if t.Reason != "" {
		code, _, _ := strings.Cut(t.Reason, ":")
		i.Reason = &xmlReason{code, t.Reason}
	}
	if t.Spot {
		i.Lifecycle = "spot"
	}
	if t.disk != nil && t.State != Terminated {
		i.Disks = []xmlDisk{{"/dev/sda1", t.disk.ID, true}}
	}
	for _, typ := range awsTypes() {
		if typ.name == t.Type {
			i.CPU = xmlCPUOptions{typ.cpus / 2, 2}
		}
	}
	return i
}

func awsTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func describeInstances(c *awsCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	if err := c.dry(); err != nil {
		return nil, err
	}
	found, err := c.things("aws_instance", map[string]func(Thing) string{
		"instance-id":         func(t Thing) string { return t.ID },
		"instance-state-name": func(t Thing) string { return awsState(t.State).Name },
	})
	if err != nil {
		return nil, err
	}
	if ids := c.list("InstanceId"); len(ids) > 0 {
		if err := c.known(ids); err != nil {
			return nil, err
		}
		found = slices.DeleteFunc(found, func(t Thing) bool { return !slices.Contains(ids, t.ID) })
	}
	// EC2 may give less than is asked for; a small page makes clients go on.
	page, next, err := pageOf(c, found, 40)
	if err != nil {
		return nil, err
	}
	type reservation struct {
		ID        string        `xml:"reservationId"`
		Instances []xmlInstance `xml:"instancesSet>item"`
	}
	answer := struct {
		awsResponse
		Reservations []reservation `xml:"reservationSet>item"`
		Next         string        `xml:"nextToken,omitempty"`
	}{awsResponse: awsRespond(), Next: next}
	for _, t := range page {
		answer.Reservations = append(answer.Reservations, reservation{"r-" + strings.TrimPrefix(t.ID, "i-"), []xmlInstance{instanceXML(t)}})
	}
	return answer, nil
}

var instanceID = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)

// known refuses instances that this region does not have, all of them together.
func (c *awsCall) known(ids []string) error {
	there := map[string]bool{}
	for _, t := range c.api.Things(AWS, "aws_instance") {
		there[t.ID] = there[t.ID] || t.Region == c.region
	}
	var missing []string
	for _, id := range ids {
		if !instanceID.MatchString(id) {
			return apiError{http.StatusBadRequest, "InvalidInstanceID.Malformed", fmt.Sprintf(`Invalid id: "%s"`, id)}
		}
		if !there[id] {
			missing = append(missing, id)
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return apiError{http.StatusBadRequest, "InvalidInstanceID.NotFound", fmt.Sprintf("The instance ID '%s' does not exist", missing[0])}
	}
	return apiError{http.StatusBadRequest, "InvalidInstanceID.NotFound", fmt.Sprintf("The instance IDs '%s' do not exist", strings.Join(missing, ", "))}
}

func terminateInstances(c *awsCall) (any, error) {
	ids := c.list("InstanceId")
	byID := map[string]Thing{}
	for _, t := range c.api.Things(AWS, "aws_instance") {
		byID[t.ID] = t
	}
	for _, id := range ids {
		if err := c.fails("terminate", byID[id]); err != nil {
			return nil, err
		}
	}
	if err := c.dry(); err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, apiError{http.StatusBadRequest, "MissingParameter", "The request must contain the parameter InstanceId"}
	}
	if err := c.known(ids); err != nil {
		return nil, err
	}
	type change struct {
		ID       string   `xml:"instanceId"`
		Current  xmlState `xml:"currentState"`
		Previous xmlState `xml:"previousState"`
	}
	answer := struct {
		awsResponse
		Changes []change `xml:"instancesSet>item"`
	}{awsResponse: awsRespond()}
	for _, id := range ids {
		if err := c.api.Terminate(AWS, id, "Client.UserInitiatedShutdown: User initiated shutdown"); err != nil {
			return nil, err
		}
		was := awsState(byID[id].State)
		is := awsState(Terminating)
		if was.Name == "terminated" {
			is = was
		}
		answer.Changes = append(answer.Changes, change{id, is, was})
	}
	return answer, nil
}

// done is the answer of actions that give nothing.
type done struct {
	awsResponse
	Return bool `xml:"return"`
}

func createTags(c *awsCall) (any, error) {
	if err := c.fails("tag", Thing{}); err != nil {
		return nil, err
	}
	ids := c.list("ResourceId")
	tags := map[string]string{}
	for n := 1; ; n++ {
		key := fmt.Sprintf("Tag.%d.", n)
		if !c.form.Has(key + "Key") {
			break
		}
		tags[c.value(key+"Key")] = c.value(key + "Value")
	}
	if err := c.dry(); err != nil {
		return nil, err
	}
	for _, id := range ids {
		switch err := c.api.Tag(AWS, id, tags); {
		case errors.Is(err, ErrNotFound):
			return nil, apiError{http.StatusBadRequest, "InvalidID", fmt.Sprintf("The ID '%s' is not valid", id)}
		case err != nil:
			return nil, err
		}
	}
	return done{awsRespond(), true}, nil
}

func describeVolumes(c *awsCall) (any, error) {
	found, err := c.listed("aws_ebs_volume")
	if err != nil {
		return nil, err
	}
	page, next, err := pageOf(c, found, 500)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, t := range c.api.Things(AWS, "aws_instance") {
		if t.disk != nil && t.State != Terminated {
			used[t.disk.ID] = true
		}
	}
	type volume struct {
		ID      string   `xml:"volumeId"`
		ZoneID  string   `xml:"availabilityZoneId"`
		Zone    string   `xml:"availabilityZone"`
		Status  string   `xml:"status"`
		Type    string   `xml:"volumeType"`
		Created string   `xml:"createTime"`
		Tags    []xmlTag `xml:"tagSet>item"`
	}
	answer := struct {
		awsResponse
		Volumes []volume `xml:"volumeSet>item"`
		Next    string   `xml:"nextToken,omitempty"`
	}{awsResponse: awsRespond(), Next: next}
	for _, t := range page {
		status := "available"
		if used[t.ID] {
			status = "in-use"
		}
		answer.Volumes = append(answer.Volumes, volume{t.ID, t.Zone, zoneName(t.Zone), status, "gp3", awsTime(t.CreatedAt), tagsOf(t)})
	}
	return answer, nil
}

// listed gives the things of a kind for a Describe action, after its faults.
func (c *awsCall) listed(kind string) ([]Thing, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	if err := c.dry(); err != nil {
		return nil, err
	}
	return c.things(kind, nil)
}

func describeKeyPairs(c *awsCall) (any, error) {
	found, err := c.listed("aws_key_pair")
	if err != nil {
		return nil, err
	}
	type pair struct {
		ID      string   `xml:"keyPairId"`
		Name    string   `xml:"keyName"`
		Created string   `xml:"createTime"`
		Tags    []xmlTag `xml:"tagSet>item"`
	}
	answer := struct {
		awsResponse
		Pairs []pair `xml:"keySet>item"`
	}{awsResponse: awsRespond()}
	for _, t := range found {
		answer.Pairs = append(answer.Pairs, pair{"key-0123456789abcdef0", t.ID, awsTime(t.CreatedAt), tagsOf(t)})
	}
	return answer, nil
}

func describeSecurityGroups(c *awsCall) (any, error) {
	found, err := c.listed("aws_security_group")
	if err != nil {
		return nil, err
	}
	page, next, err := pageOf(c, found, 500)
	if err != nil {
		return nil, err
	}
	type group struct {
		ID   string   `xml:"groupId"`
		Name string   `xml:"groupName"`
		Tags []xmlTag `xml:"tagSet>item"`
	}
	answer := struct {
		awsResponse
		Groups []group `xml:"securityGroupInfo>item"`
		Next   string  `xml:"nextToken,omitempty"`
	}{awsResponse: awsRespond(), Next: next}
	for _, t := range page {
		name, _ := t.Args["name"].(string)
		answer.Groups = append(answer.Groups, group{t.ID, name, tagsOf(t)})
	}
	return answer, nil
}

func describePlacementGroups(c *awsCall) (any, error) {
	found, err := c.listed("aws_placement_group")
	if err != nil {
		return nil, err
	}
	type group struct {
		Name     string   `xml:"groupName"`
		State    string   `xml:"state"`
		Strategy string   `xml:"strategy"`
		Tags     []xmlTag `xml:"tagSet>item"`
	}
	answer := struct {
		awsResponse
		Groups []group `xml:"placementGroupSet>item"`
	}{awsResponse: awsRespond()}
	for _, t := range found {
		answer.Groups = append(answer.Groups, group{t.ID, "available", "cluster", tagsOf(t)})
	}
	return answer, nil
}

// deleteThing removes a thing by its id or name. EC2 takes a key pair that is not
// there for deleted: for it notFound is empty.
func deleteThing(kind, parameter, notFound, inUse string) awsAction {
	return func(c *awsCall) (any, error) {
		if err := c.fails("delete", Thing{}); err != nil {
			return nil, err
		}
		id := c.value(parameter)
		if err := c.dry(); err != nil {
			return nil, err
		}
		here := false
		for _, t := range c.api.Things(AWS, kind) {
			here = here || t.ID == id && t.Region == c.region
		}
		err := error(ErrNotFound)
		if here {
			err = c.api.Delete(AWS, kind, id)
		}
		switch {
		case errors.Is(err, ErrNotFound) && notFound == "":
		case errors.Is(err, ErrNotFound):
			return nil, apiError{http.StatusBadRequest, notFound, fmt.Sprintf("'%s' does not exist", id)}
		case errors.Is(err, ErrInUse):
			return nil, apiError{http.StatusBadRequest, inUse, fmt.Sprintf("resource %s has a dependent object", id)}
		case err != nil:
			return nil, err
		}
		return done{awsRespond(), true}, nil
	}
}

// onlyDry answers whether an action would be carried out, and carries none out. A
// parameter that ends in a dot stands for all that begin so.
func onlyDry(action string, parameters ...string) awsAction {
	return func(c *awsCall) (any, error) {
		if err := c.fails("create", Thing{}); err != nil {
			return nil, err
		}
		for name := range c.form {
			if slices.ContainsFunc(parameters, func(p string) bool { return name == p || strings.HasSuffix(p, ".") && strings.HasPrefix(name, p) }) {
				c.value(name)
			}
		}
		if err := c.dry(); err != nil {
			return nil, err
		}
		return nil, apiError{http.StatusBadRequest, "InvalidAction", action + " is done through Terraform alone"}
	}
}

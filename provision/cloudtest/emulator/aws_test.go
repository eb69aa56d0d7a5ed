package emulator

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// awsAsk makes a request as the SDKs do.
func awsAsk(t *testing.T, e *Emulator, service, target, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.Endpoint(AWS), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if service != "" {
		r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/%s/aws4_request, SignedHeaders=host, Signature=00", service))
	}
	r.Header.Set("X-Amz-Target", target)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answered, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answered.Body.Close()
	b, err := io.ReadAll(answered.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered.StatusCode, string(b)
}

// What the APIs do not know is an error and never a success.
func TestAWSAnswers(t *testing.T) {
	e := start(t, nil)
	for _, test := range []struct {
		name, service, target, body string
		status                      int
		want                        string
	}{
		{"nobody signed it", "", "", "Action=DescribeInstances", 401, "<Code>AuthFailure</Code>"},
		{"another service", "s3", "", "Action=ListBuckets", 400, "<Code>InvalidAction</Code>"},
		{"no instances", "ec2", "", "Action=DescribeInstances&Version=2016-11-15", 200, "<DescribeInstancesResponse "},
		{"another action", "ec2", "", "Action=CreateFleet", 400, "<Code>InvalidAction</Code>"},
		{"no action", "ec2", "", "", 400, "<Code>InvalidAction</Code>"},
		{"no form", "ec2", "", "%", 400, "<Code>MalformedQueryString</Code>"},
		{"another parameter", "ec2", "", "Action=DescribeInstances&Colour=red", 400, "The parameter Colour is not recognized"},
		{"another filter", "ec2", "", "Action=DescribeInstances&Filter.1.Name=colour&Filter.1.Value.1=red", 400, "The filter &#39;colour&#39; is invalid"},
		{"no such page", "ec2", "", "Action=DescribeInstances&NextToken=x", 400, "<Code>InvalidNextToken</Code>"},
		{"an instance that is not there", "ec2", "", "Action=TerminateInstances&InstanceId.1=i-0123456789abcdef0", 400, "The instance ID &#39;i-0123456789abcdef0&#39; does not exist"},
		{"two of them", "ec2", "", "Action=TerminateInstances&InstanceId.1=i-0123456789abcdef0&InstanceId.2=i-0123456789abcdef1", 400, "The instance IDs &#39;i-0123456789abcdef0, i-0123456789abcdef1&#39; do not exist"},
		{"no id", "ec2", "", "Action=TerminateInstances&InstanceId.1=x", 400, "<Code>InvalidInstanceID.Malformed</Code>"},
		{"no instance", "ec2", "", "Action=TerminateInstances", 400, "<Code>MissingParameter</Code>"},
		{"a dry run", "ec2", "", "Action=RunInstances&DryRun=true&ImageId=x&InstanceType=t3.micro&MinCount=1&MaxCount=1", 412, "<Code>DryRunOperation</Code>"},
		{"a dry run of something else", "ec2", "", "Action=RunInstances&DryRun=true&Colour=red", 400, "<Code>UnknownParameter</Code>"},
		{"not dry", "ec2", "", "Action=RunInstances&ImageId=x&InstanceType=t3.micro&MinCount=1&MaxCount=1", 400, "<Code>InvalidAction</Code>"},
		{"a disk that is not there", "ec2", "", "Action=DeleteVolume&VolumeId=vol-1", 400, "<Code>InvalidVolume.NotFound</Code>"},
		{"a key that is not there", "ec2", "", "Action=DeleteKeyPair&KeyName=x", 200, "<return>true</return>"},
		{"nothing to tag", "ec2", "", "Action=CreateTags&ResourceId.1=i-1&Tag.1.Key=a&Tag.1.Value=b", 400, "<Code>InvalidID</Code>"},
		{"who asks", "sts", "", "Action=GetCallerIdentity&Version=2011-06-15", 200, "<Account>" + account + "</Account>"},
		{"a role", "sts", "", "Action=AssumeRole", 400, "<Code>InvalidAction</Code>"},
		{"another operation", "pricing", "AWSPriceListService.DescribeServices", "{}", 400, "UnknownOperationException"},
		{"another quota", "servicequotas", "ServiceQuotasV20190624.GetServiceQuota", `{"ServiceCode":"ec2","QuotaCode":"L-0"}`, 400, "NoSuchResourceException"},
		{"a quota", "servicequotas", "ServiceQuotasV20190624.GetServiceQuota", `{"ServiceCode":"ec2","QuotaCode":"L-1216C47A"}`, 200, `"Value":640`},
		{"another field", "pricing", "AWSPriceListService.GetProducts", `{"ServiceCode":"AmazonEC2","Filters":[{"Field":"colour","Type":"TERM_MATCH","Value":"red"}]}`, 400, "InvalidParameterException"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, answer := awsAsk(t, e, test.service, test.target, test.body)
			if status != test.status || !strings.Contains(answer, test.want) {
				t.Errorf("the answer is %d %s, want %d with %s", status, answer, test.status, test.want)
			}
		})
	}
	if n := e.Calls("DescribeInstances"); n == 0 {
		t.Error("calls are not counted")
	}
}

package aws

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision/cloudtest/emulator"
)

// motoVersion is the emulator of AWS that the suite is run against: one that is
// not ours, so that our own cannot be wrong in the same way as our code.
const motoVersion = "5.1.4"

// TestAgainstMoto runs the suite against moto's server. It is skipped where there
// is no Python or no package index, or with LEVIN_MOTO=skip.
func TestAgainstMoto(t *testing.T) {
	if os.Getenv("LEVIN_MOTO") == "skip" {
		t.Skip("LEVIN_MOTO=skip")
	}
	if testing.Short() {
		t.Skip("moto takes seconds to start")
	}
	suite(t, newMoto(t))
}

// motoPython gives the Python of a virtual environment with moto, which is made
// once and kept in the user's cache.
func motoPython(t *testing.T) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 to run moto with")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip("there is no cache folder to keep moto in: ", err)
	}
	dir := filepath.Join(cache, "levin-test", "moto-"+motoVersion)
	bin := filepath.Join(dir, "bin", "python")
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return bin
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	for _, command := range [][]string{
		{python, "-m", "venv", "--clear", dir},
		{bin, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "moto[ec2,server]==" + motoVersion},
	} {
		out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
		if err != nil {
			t.Skipf("moto cannot be installed: %v: %s", err, lastLine(string(out)))
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "complete"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return bin
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// moto is the world of a moto server. What moto lacks (placement groups, quotas,
// prices) is answered by the emulator.
type moto struct {
	server string // moto's own address
	url    string // of what stands before it
	books  *books
	c      *Cloud // for its clients
}

// lacks says what moto does not know.
func lacks(action, target string) bool {
	return strings.HasSuffix(action, "PlacementGroups") || strings.HasSuffix(action, "PlacementGroup") ||
		strings.Contains(target, "ServiceQuotas") || strings.Contains(target, "PriceList")
}

// front is what stands before moto.
func (w *moto) front(t *testing.T) http.Handler {
	to, err := url.Parse(w.server)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: transport}
	emulated := emulator.AWSHandler(w.books)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, _ := url.ParseQuery(string(body))
		if lacks(form.Get("Action"), r.Header.Get("X-Amz-Target")) {
			emulated.ServeHTTP(rw, r)
			return
		}
		proxy.ServeHTTP(rw, r)
	})
}

var listening = regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)

func newMoto(t *testing.T) *moto {
	t.Helper()
	python := motoPython(t)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, python, "-m", "moto.server", "-H", "127.0.0.1", "-p", fmt.Sprint(port))
	// Images and instance types are read when something first needs them.
	server.Env = append(os.Environ(), "MOTO_EC2_LOAD_DEFAULT_AMIS=true", "PYTHONUNBUFFERED=1")
	output, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	server.Stdout, server.Stderr = write, write
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() {
		cancel()
		server.Wait()
		output.Close()
	})
	w := &moto{books: newBooks(t)}
	lines := bufio.NewScanner(output)
	var said []string
	for w.server == "" && lines.Scan() {
		said = append(said, lines.Text())
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			w.server = m[1]
		}
	}
	if w.server == "" {
		t.Fatalf("moto did not start: %s", strings.Join(said, "\n"))
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		io.Copy(io.Discard, output)
	}()
	t.Cleanup(func() {
		cancel()
		<-drained
	})
	front := httptest.NewServer(w.front(t))
	t.Cleanup(front.Close)
	w.url = front.URL
	w.c = newCloud(t, w.url, configs.CloudSettings{})
	return w
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func (w *moto) endpoint() string { return w.url }

func (w *moto) in(t *testing.T, name string) *region {
	t.Helper()
	r, err := w.c.in(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *moto) instance(t *testing.T, region, typ string, spot bool, tags map[string]string) string {
	t.Helper()
	r := w.in(t, region)
	images, err := r.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}})
	if err != nil || len(images.Images) == 0 {
		t.Fatalf("no images: %v", err)
	}
	in := &ec2.RunInstancesInput{
		ImageId: images.Images[0].ImageId, InstanceType: types.InstanceType(typ),
		MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1),
		TagSpecifications: []types.TagSpecification{specification(types.ResourceTypeInstance, tags), specification(types.ResourceTypeVolume, tags)},
	}
	if spot {
		in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: types.MarketTypeSpot}
	}
	out, err := r.ec2.RunInstances(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return awssdk.ToString(out.Instances[0].InstanceId)
}

func specification(of types.ResourceType, tags map[string]string) types.TagSpecification {
	s := types.TagSpecification{ResourceType: of}
	for k, v := range tags {
		s.Tags = append(s.Tags, types.Tag{Key: awssdk.String(k), Value: awssdk.String(v)})
	}
	return s
}

func (w *moto) litter(t *testing.T, region, instance string, tags map[string]string) {
	t.Helper()
	delete(tags, tagName)
	ctx, r := t.Context(), w.in(t, region)
	_, key := r.ec2.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{
		KeyName: awssdk.String("levin-run-s"), TagSpecifications: []types.TagSpecification{specification(types.ResourceTypeKeyPair, tags)},
	})
	w.books.add(emulator.Thing{Kind: "aws_placement_group", ID: "levin-run-s", Region: region, Tags: tags})
	_, disk := r.ec2.CreateVolume(ctx, &ec2.CreateVolumeInput{
		AvailabilityZone: awssdk.String(region + "a"), Size: awssdk.Int32(10),
		TagSpecifications: []types.TagSpecification{specification(types.ResourceTypeVolume, tags)},
	})
	err := errors.Join(key, disk)
	for _, name := range []string{"levin-run-s", "levin-run-s-ports"} {
		group, groupErr := r.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
			GroupName: awssdk.String(name), Description: awssdk.String("test"),
			TagSpecifications: []types.TagSpecification{specification(types.ResourceTypeSecurityGroup, tags)},
		})
		if groupErr != nil {
			t.Fatal(groupErr)
		}
		if name != "levin-run-s" {
			_, use := r.ec2.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: awssdk.String(instance), Groups: []string{awssdk.ToString(group.GroupId)}})
			err = errors.Join(err, use)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (w *moto) find(t *testing.T, region, id string) *types.Instance {
	t.Helper()
	all, err := w.in(t, region).describe(t.Context(), filter("instance-id", id))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		return nil
	}
	return &all[0]
}

func (w *moto) tags(t *testing.T, region, id string) map[string]string {
	t.Helper()
	tags := map[string]string{}
	for _, tag := range w.find(t, region, id).Tags {
		tags[awssdk.ToString(tag.Key)] = awssdk.ToString(tag.Value)
	}
	return tags
}

func (w *moto) state(t *testing.T, region, id string) string {
	t.Helper()
	i := w.find(t, region, id)
	if i == nil {
		return ""
	}
	return string(stateOf(*i))
}

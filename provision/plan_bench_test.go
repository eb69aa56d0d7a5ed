package provision_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/catalog"
	"github.com/levinrun/levin/terraform"
)

// shop is a cloud that sells what is in a built-in catalog.
type shop struct {
	cat *catalog.Catalog
	fee float64 // USD per GiB that leaves a region
}

func newShops(t testing.TB) []provision.Cloud {
	t.Helper()
	var clouds []provision.Cloud
	for _, kind := range []string{"aws", "gcp"} {
		cat, err := catalog.Embedded(kind)
		if err != nil {
			t.Fatal(err)
		}
		clouds = append(clouds, shop{cat, 0.1})
	}
	return clouds
}

func (s shop) Name() string { return s.cat.Kind }

func (s shop) Offers(_ context.Context, r configs.Resources) ([]provision.Offer, error) {
	return s.cat.Offers(s.cat.Kind, nil, r), nil
}

func (s shop) List(ctx context.Context) ([]provision.Offer, error) {
	return s.Offers(ctx, configs.Resources{Spot: configs.SpotAuto})
}

func (s shop) Egress(region, location string) float64 {
	if location == s.cat.Kind+"/"+region {
		return 0
	}
	return s.fee
}

func (shop) Module(context.Context, string) (terraform.Module, terraform.Providers, error) {
	panic("a plan needs no module")
}
func (shop) Input(provision.Offer, configs.Resources) (terraform.MachineInput, error) {
	panic("a plan needs no input")
}
func (shop) Target(cluster.Machine, string) (cluster.Target, error) {
	panic("a plan needs no target")
}

// thousand is an app of 1,000 components no two of which ask for the same.
func thousand(outputs float64) *configs.App {
	models := []string{"T4", "A10G", "L4", "V100", "A100", "L40S"}
	app := &configs.App{Name: "big"}
	for i := range 1000 {
		r := configs.Resources{CPUs: configs.Range{Min: float64(1 + i%8)}, Memory: configs.Range{Min: 1 + float64(i)/32}}
		switch i % 5 {
		case 0:
			r.GPU = &configs.GPU{Models: []string{models[i%len(models)]}, Count: 1}
		case 1:
			r.Spot = configs.SpotAuto
		case 2:
			r.AnyOf = []configs.Resources{{Arch: "arm64"}, {Regions: []string{"us-central1"}}}
		}
		c := configs.Component{Name: fmt.Sprintf("c%d", i), Resources: r, OutputSize: outputs, MaxMachines: 1}
		if i > 0 {
			c.Needs = []string{fmt.Sprintf("c%d", i-1)}
		}
		app.Components = append(app.Components, c)
	}
	return app
}

func BenchmarkPlan1000(b *testing.B) {
	clouds := newShops(b)
	for _, test := range []struct {
		name string
		app  *configs.App
	}{{"no data", thousand(0)}, {"with data", thousand(10)}} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := provision.NewPlan(b.Context(), test.app, clouds, provision.PlanOptions{Location: "aws/us-east-1"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPlan1000ThatNothingFits(b *testing.B) {
	clouds := newShops(b)
	app := thousand(0)
	for i := range app.Components {
		app.Components[i].Resources.MaxPrice = 0.001
	}
	for b.Loop() {
		if _, err := provision.NewPlan(b.Context(), app, clouds, provision.PlanOptions{}); err == nil {
			b.Fatal("something fits")
		}
	}
}

// unlisted is a cloud that has to be asked for each component.
type unlisted struct{ provision.Cloud }

// A price list is only a quicker way to the same plan.
func TestListAndOffersGiveTheSamePlan(t *testing.T) {
	listed := newShops(t)
	asked := []provision.Cloud{unlisted{listed[0]}, unlisted{listed[1]}}
	app := thousand(0)
	want, err := provision.NewPlan(t.Context(), app, asked, provision.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := provision.NewPlan(t.Context(), app, listed, provision.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(want, got) {
		for i := range want.Choices {
			if diff := cmp.Diff(want.Choices[i], got.Choices[i]); diff != "" {
				t.Fatalf("choice %d (-asked +listed):\n%s", i, diff)
			}
		}
		t.Error("the plans differ")
	}
}

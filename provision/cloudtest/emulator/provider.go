package emulator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/levinrun/levin/terraform/reattach"
)

// resource is how one resource type behaves. Paths are names of attributes,
// "block.attribute" for those in nested blocks.
type resource struct {
	defaults map[string]cty.Value // of arguments that the provider, not the cloud, gives a default
	filled   []string             // blocks that the cloud fills in when the configuration has none
	forceNew []string             // arguments whose change needs another resource
	updated  []string             // arguments that can be changed besides tags and labels

	// check refuses a configuration that the provider refuses; values that are not
	// known yet are not there.
	check func(in values) error
	// promise says what the provider knows of computed attributes when it plans.
	promise func(s *session, planned, config cty.Value) map[string]cty.Value
	// create makes the thing and answers with computed attributes. A thing together
	// with an error is one that exists and is not well.
	create func(ctx context.Context, s *session, in values) (*Thing, values, error)
	// live gives the attributes that change without Terraform. The lock is held.
	live func(t *Thing) values
}

// dataSource reads one data source.
type dataSource func(ctx context.Context, s *session, in values) (values, error)

// errLost says that the provider is to die before it answers.
var errLost = errors.New("the provider dies")

// session is a provider as one Terraform process sees it.
type session struct {
	e         *Emulator
	cloud     string
	schema    providerSchema
	resources map[string]resource
	data      map[string]dataSource

	stopped context.Context // ends when Terraform asks to stop
	stop    context.CancelFunc

	mu         sync.Mutex
	configured bool
	region     string
	zone       string            // GCP
	project    string            // GCP
	tags       map[string]string // that everything gets
}

// newProvider gives what makes a session for each connection.
func (e *Emulator) newProvider(cloud string, schema providerSchema) func() tfprotov6.ProviderServer {
	resources, data := awsResources(), awsDataSources()
	if cloud == GCP {
		resources, data = gcpResources(), gcpDataSources()
	}
	return func() tfprotov6.ProviderServer {
		s := &session{e: e, cloud: cloud, schema: schema, resources: resources, data: data}
		s.stopped, s.stop = context.WithCancel(e.ctx)
		return s
	}
}

// within gives a context that ends with ctx, and when Terraform asks to stop.
func (s *session) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(s.stopped, func() { cancel(context.Canceled) })
	return ctx, func() { release(); cancel(nil) }
}

// failed words an error as a diagnostic, as the real providers do.
func failed(err error) []*tfprotov6.Diagnostic {
	if err == nil {
		return nil
	}
	return []*tfprotov6.Diagnostic{{Severity: tfprotov6.DiagnosticSeverityError, Summary: err.Error()}}
}

func (s *session) GetMetadata(context.Context, *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	resp := &tfprotov6.GetMetadataResponse{ServerCapabilities: &tfprotov6.ServerCapabilities{}}
	for _, name := range slices.Sorted(maps.Keys(s.schema.Resources)) {
		resp.Resources = append(resp.Resources, tfprotov6.ResourceMetadata{TypeName: name})
	}
	for _, name := range slices.Sorted(maps.Keys(s.schema.DataSources)) {
		resp.DataSources = append(resp.DataSources, tfprotov6.DataSourceMetadata{TypeName: name})
	}
	return resp, nil
}

func (s *session) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	resp := &tfprotov6.GetProviderSchemaResponse{
		ServerCapabilities: &tfprotov6.ServerCapabilities{},
		Provider:           s.schema.Provider.protocol(),
		ResourceSchemas:    map[string]*tfprotov6.Schema{},
		DataSourceSchemas:  map[string]*tfprotov6.Schema{},
	}
	for name, t := range s.schema.Resources {
		resp.ResourceSchemas[name] = t.protocol()
	}
	for name, t := range s.schema.DataSources {
		resp.DataSourceSchemas[name] = t.protocol()
	}
	return resp, nil
}

func (s *session) GetResourceIdentitySchemas(context.Context, *tfprotov6.GetResourceIdentitySchemasRequest) (*tfprotov6.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov6.GetResourceIdentitySchemasResponse{}, nil
}

func (s *session) ValidateProviderConfig(_ context.Context, req *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: req.Config}, nil
}

func (s *session) ConfigureProvider(ctx context.Context, req *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	config, err := decode(req.Config, s.schema.Provider.Block.typ())
	if err == nil {
		err = s.configure(ctx, plainObject(config))
	}
	return &tfprotov6.ConfigureProviderResponse{Diagnostics: failed(err)}, nil
}

func (s *session) configure(ctx context.Context, in values) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.cloud == AWS {
		err = s.configureAWS(ctx, in)
	} else {
		err = s.configureGCP(in)
	}
	s.configured = err == nil
	return err
}

// ready refuses what comes before the configuration: a provider that has died and
// is asked again, for example.
func (s *session) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.configured {
		return errors.New("the provider is not configured: did the one that was die?")
	}
	return nil
}

func (s *session) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	s.stop()
	return &tfprotov6.StopProviderResponse{}, nil
}

func (s *session) ValidateResourceConfig(_ context.Context, req *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	_, schema, err := s.resource(req.TypeName)
	if err != nil {
		return &tfprotov6.ValidateResourceConfigResponse{Diagnostics: failed(err)}, nil
	}
	config, err := decode(req.Config, schema.Block.typ())
	if check := s.resources[req.TypeName].check; err == nil && check != nil {
		err = check(plainObject(config))
	}
	return &tfprotov6.ValidateResourceConfigResponse{Diagnostics: failed(err)}, nil
}

func (s *session) resource(name string) (resource, typeSchema, error) {
	r, ok := s.resources[name]
	if !ok {
		return resource{}, typeSchema{}, fmt.Errorf("resource %s is not emulated", name)
	}
	return r, s.schema.Resources[name], nil
}

func (s *session) UpgradeResourceState(_ context.Context, req *tfprotov6.UpgradeResourceStateRequest) (*tfprotov6.UpgradeResourceStateResponse, error) {
	_, schema, err := s.resource(req.TypeName)
	if err == nil && req.Version != schema.Version {
		err = fmt.Errorf("state of %s has version %d, the provider has %d", req.TypeName, req.Version, schema.Version)
	}
	var state *tfprotov6.DynamicValue
	if err == nil {
		var v cty.Value
		if v, err = ctyjson.Unmarshal(req.RawState.JSON, schema.Block.typ()); err == nil {
			state, err = encode(v)
		}
	}
	return &tfprotov6.UpgradeResourceStateResponse{UpgradedState: state, Diagnostics: failed(err)}, nil
}

func (s *session) UpgradeResourceIdentity(context.Context, *tfprotov6.UpgradeResourceIdentityRequest) (*tfprotov6.UpgradeResourceIdentityResponse, error) {
	return nil, errors.New("no resource has an identity")
}

func (s *session) MoveResourceState(context.Context, *tfprotov6.MoveResourceStateRequest) (*tfprotov6.MoveResourceStateResponse, error) {
	return nil, errors.New("resources cannot be moved")
}

func (s *session) GenerateResourceConfig(context.Context, *tfprotov6.GenerateResourceConfigRequest) (*tfprotov6.GenerateResourceConfigResponse, error) {
	return nil, errors.New("configuration is not generated")
}

func (s *session) ReadResource(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	state, err := s.read(ctx, req)
	return &tfprotov6.ReadResourceResponse{NewState: state, Private: req.Private, Diagnostics: failed(err)}, nil
}

func (s *session) read(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.DynamicValue, error) {
	r, schema, err := s.resource(req.TypeName)
	if err == nil {
		err = s.ready()
	}
	if err != nil {
		return nil, err
	}
	prior, err := decode(req.CurrentState, schema.Block.typ())
	if err != nil {
		return nil, err
	}
	if err := s.describe(ctx, req.TypeName, plainObject(prior)); err != nil {
		return nil, err
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	t := s.findState(req.TypeName, plainObject(prior).str("id"))
	if t == nil {
		return encode(cty.NullVal(schema.Block.typ()))
	}
	state, err := s.current(r, schema.Block, t)
	if err != nil {
		return nil, err
	}
	if _, ok := schema.Block.Blocks["timeouts"]; ok {
		state = with(state, map[string]cty.Value{"timeouts": prior.GetAttr("timeouts")})
	}
	return encode(state)
}

// findState finds the thing by the id that Terraform has for it. The lock is held.
func (s *session) findState(kind, id string) *Thing {
	return s.e.find(s.cloud, func(t *Thing) bool { return t.Kind == kind && t.stateID == id && t.exists() })
}

// current is the state of a thing as it is now. The lock is held.
func (s *session) current(r resource, b blockSchema, t *Thing) (cty.Value, error) {
	live := values{}
	if r.live != nil {
		live = r.live(t)
	}
	attrs := map[string]cty.Value{}
	for name, x := range live {
		v, err := typed(x, b.Attributes[name].Type)
		if err != nil {
			return cty.NilVal, fmt.Errorf("%s: %w", name, err)
		}
		attrs[name] = v
	}
	return with(t.state, attrs), nil
}

func (s *session) PlanResourceChange(_ context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	resp := &tfprotov6.PlanResourceChangeResponse{
		PlannedPrivate: req.PriorPrivate,
		//lint:ignore SA1019 the real providers do, and Terraform treats them in another way for it
		UnsafeToUseLegacyTypeSystem: true,
	}
	r, schema, err := s.resource(req.TypeName)
	if err != nil {
		resp.Diagnostics = failed(err)
		return resp, nil
	}
	t := schema.Block.typ()
	prior, err1 := decode(req.PriorState, t)
	proposed, err2 := decode(req.ProposedNewState, t)
	config, err3 := decode(req.Config, t)
	if err := errors.Join(err1, err2, err3); err != nil {
		resp.Diagnostics = failed(err)
		return resp, nil
	}
	if proposed.IsNull() {
		resp.PlannedState = req.ProposedNewState
		return resp, nil
	}
	planned := r.plan(schema.Block, "", prior, proposed, config)
	if r.promise != nil {
		planned = with(planned, r.promise(s, planned, config))
	}
	if !prior.IsNull() {
		for _, name := range r.replaced(prior, planned) {
			resp.RequiresReplace = append(resp.RequiresReplace, tftypes.NewAttributePath().WithAttributeName(name))
		}
	}
	resp.PlannedState, err = encode(planned)
	resp.Diagnostics = failed(err)
	return resp, nil
}

func (s *session) ApplyResourceChange(ctx context.Context, req *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	ctx, release := s.within(ctx)
	defer release()
	state, err := s.apply(ctx, req)
	if errors.Is(err, errLost) {
		reattach.Drop(ctx)
		return nil, err
	}
	return &tfprotov6.ApplyResourceChangeResponse{
		NewState: state, Private: req.PlannedPrivate, Diagnostics: failed(err),
		//lint:ignore SA1019 as above
		UnsafeToUseLegacyTypeSystem: true,
	}, nil
}

// apply gives the new state, also together with an error.
func (s *session) apply(ctx context.Context, req *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.DynamicValue, error) {
	r, schema, err := s.resource(req.TypeName)
	if err == nil {
		err = s.ready()
	}
	if err != nil {
		return req.PriorState, err
	}
	t := schema.Block.typ()
	prior, err1 := decode(req.PriorState, t)
	planned, err2 := decode(req.PlannedState, t)
	config, err3 := decode(req.Config, t)
	if err := errors.Join(err1, err2, err3); err != nil {
		return req.PriorState, err
	}
	var state cty.Value
	switch {
	case planned.IsNull():
		state, err = planned, s.delete(ctx, req.TypeName, plainObject(prior))
		if err != nil {
			state = prior
		}
	case prior.IsNull():
		state, err = s.create(ctx, r, schema.Block, planned, config)
	default:
		state, err = s.update(r, schema.Block, req.TypeName, prior, planned)
	}
	encoded, encodeErr := encode(state)
	return encoded, errors.Join(err, encodeErr)
}

func (s *session) create(ctx context.Context, r resource, b blockSchema, planned, config cty.Value) (cty.Value, error) {
	// What is planned has the defaults; what is configured is not digested.
	in := plainObject(planned)
	if in == nil {
		in = values{}
	}
	maps.Copy(in, plainObject(config))
	thing, answers, err := r.create(ctx, s, in)
	if thing == nil {
		return cty.NullVal(b.typ()), err
	}
	state, settleErr := settle(b, planned, answers)
	if settleErr != nil {
		return cty.NullVal(b.typ()), errors.Join(err, settleErr)
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	thing.state = state
	return state, err
}

// update changes tags and what else is known to be changeable.
func (s *session) update(r resource, b blockSchema, kind string, prior, planned cty.Value) (cty.Value, error) {
	can := append([]string{"tags", "tags_all", "labels", "terraform_labels", "effective_labels", "timeouts"}, r.updated...)
	for _, name := range slices.Sorted(maps.Keys(b.typ().AttributeTypes())) {
		if p := planned.GetAttr(name); p.IsWhollyKnown() && !p.RawEquals(prior.GetAttr(name)) && !slices.Contains(can, name) {
			return prior, fmt.Errorf("changing %s of %s is not emulated", name, kind)
		}
	}
	state, err := settle(b, planned, plainObject(prior))
	if err != nil {
		return prior, err
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	t := s.findState(kind, plainObject(prior).str("id"))
	if t == nil {
		return prior, fmt.Errorf("%s %s: %w", kind, plainObject(prior).str("id"), ErrNotFound)
	}
	t.state = state
	all := plainObject(state).stringMap("tags_all")
	if s.cloud == GCP {
		all = plainObject(state).stringMap("effective_labels")
	}
	if len(all) > 0 || len(t.Tags) > 0 {
		t.setTags(all)
	}
	for _, name := range r.updated {
		t.Args[name] = plain(state.GetAttr(name))
	}
	s.e.notify()
	return state, nil
}

func (s *session) ImportResourceState(_ context.Context, req *tfprotov6.ImportResourceStateRequest) (*tfprotov6.ImportResourceStateResponse, error) {
	resp := &tfprotov6.ImportResourceStateResponse{}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	t := s.e.find(s.cloud, func(t *Thing) bool {
		return t.Kind == req.TypeName && (t.stateID == req.ID || t.ID == req.ID) && t.exists()
	})
	if t == nil {
		resp.Diagnostics = failed(verbatim("Cannot import non-existent remote object: %s %s", req.TypeName, req.ID))
		return resp, nil
	}
	state, err := encode(t.state)
	if err != nil {
		resp.Diagnostics = failed(err)
		return resp, nil
	}
	resp.ImportedResources = []*tfprotov6.ImportedResource{{TypeName: req.TypeName, State: state}}
	return resp, nil
}

func (s *session) ValidateDataResourceConfig(context.Context, *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	return &tfprotov6.ValidateDataResourceConfigResponse{}, nil
}

func (s *session) ReadDataSource(ctx context.Context, req *tfprotov6.ReadDataSourceRequest) (*tfprotov6.ReadDataSourceResponse, error) {
	ctx, release := s.within(ctx)
	defer release()
	state, err := s.readData(ctx, req)
	return &tfprotov6.ReadDataSourceResponse{State: state, Diagnostics: failed(err)}, nil
}

func (s *session) readData(ctx context.Context, req *tfprotov6.ReadDataSourceRequest) (*tfprotov6.DynamicValue, error) {
	read, ok := s.data[req.TypeName]
	if !ok {
		return nil, fmt.Errorf("data source %s is not emulated", req.TypeName)
	}
	if err := s.ready(); err != nil {
		return nil, err
	}
	schema := s.schema.DataSources[req.TypeName]
	config, err := decode(req.Config, schema.Block.typ())
	if err != nil {
		return nil, err
	}
	answers, err := read(ctx, s, plainObject(config))
	if err != nil {
		return nil, err
	}
	none := cty.NullVal(schema.Block.typ())
	state, err := settle(schema.Block, resource{}.plan(schema.Block, "", none, config, config), answers)
	if err != nil {
		return nil, err
	}
	return encode(state)
}

func (s *session) CallFunction(context.Context, *tfprotov6.CallFunctionRequest) (*tfprotov6.CallFunctionResponse, error) {
	return nil, errors.New("there are no functions")
}

func (s *session) GetFunctions(context.Context, *tfprotov6.GetFunctionsRequest) (*tfprotov6.GetFunctionsResponse, error) {
	return &tfprotov6.GetFunctionsResponse{}, nil
}

func (s *session) ValidateEphemeralResourceConfig(context.Context, *tfprotov6.ValidateEphemeralResourceConfigRequest) (*tfprotov6.ValidateEphemeralResourceConfigResponse, error) {
	return nil, errors.New("there are no ephemeral resources")
}

func (s *session) OpenEphemeralResource(context.Context, *tfprotov6.OpenEphemeralResourceRequest) (*tfprotov6.OpenEphemeralResourceResponse, error) {
	return nil, errors.New("there are no ephemeral resources")
}

func (s *session) RenewEphemeralResource(context.Context, *tfprotov6.RenewEphemeralResourceRequest) (*tfprotov6.RenewEphemeralResourceResponse, error) {
	return nil, errors.New("there are no ephemeral resources")
}

func (s *session) CloseEphemeralResource(context.Context, *tfprotov6.CloseEphemeralResourceRequest) (*tfprotov6.CloseEphemeralResourceResponse, error) {
	return nil, errors.New("there are no ephemeral resources")
}

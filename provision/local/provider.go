package local

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/levinrun/levin/provision/local/machine"
)

// levinProvider is the Terraform provider levinrun/levin. It has one resource,
// levin_machine, and no settings: it belongs to the Cloud that serves it.
type levinProvider struct{ cloud *Cloud }

func (p *levinProvider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "levin"
}

func (p *levinProvider) Schema(context.Context, provider.SchemaRequest, *provider.SchemaResponse) {}

func (p *levinProvider) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {
}

func (p *levinProvider) DataSources(context.Context) []func() datasource.DataSource { return nil }

func (p *levinProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		func() resource.Resource { return &machineResource{p.cloud} },
	}
}

// machineResource is levin_machine: a machine that is a process on this host.
type machineResource struct{ cloud *Cloud }

// machineModel is levin_machine's arguments and attributes.
type machineModel struct {
	Name         types.String `tfsdk:"name"`
	Run          types.String `tfsdk:"run"`
	SSHPublicKey types.String `tfsdk:"ssh_public_key"`
	LeaseSeconds types.Int64  `tfsdk:"lease_seconds"`

	ID      types.String `tfsdk:"id"`
	Address types.String `tfsdk:"address"`
	Port    types.Int64  `tfsdk:"port"`
	User    types.String `tfsdk:"user"`
	HostKey types.String `tfsdk:"host_key"`
}

// set takes over what is known of the machine that lives.
func (m *machineModel) set(info machine.Info) {
	m.ID = m.Name
	m.Address = types.StringValue(info.Address)
	m.Port = types.Int64Value(int64(info.Port))
	m.User = types.StringValue(info.User)
	m.HostKey = types.StringValue(info.HostKey)
}

func (r *machineResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "levin_machine"
}

func (r *machineResource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	text := func(about string) schema.Attribute {
		return schema.StringAttribute{
			Required: true, MarkdownDescription: about,
			PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
		}
	}
	answer := func(about string) schema.Attribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: about}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "A machine that is a process on this host, with a folder and an SSH server of its own.",
		Attributes: map[string]schema.Attribute{
			"name":           text("Name of the machine, a DNS label. Its folder has the same name."),
			"run":            text("Run that the machine belongs to."),
			"ssh_public_key": text("The only key that is let in, in authorized_keys form."),
			"lease_seconds": schema.Int64Attribute{
				Required:            true,
				MarkdownDescription: "Seconds after which the machine ends itself when it has had no connection and no process.",
				PlanModifiers:       []planmodifier.Int64{int64planmodifier.RequiresReplace()},
			},
			"id":      answer("The name again."),
			"address": answer("Address of its SSH server."),
			"port": schema.Int64Attribute{
				Computed: true, MarkdownDescription: "Port of its SSH server.",
			},
			"user":     answer("User to log in as."),
			"host_key": answer("Host key of its SSH server, in authorized_keys form."),
		},
	}
}

// Create starts the machine. If it lives already, that one is it.
func (r *machineResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m machineModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	info, err := r.cloud.start(ctx, m)
	if err != nil {
		resp.Diagnostics.AddError("cannot create machine "+m.Name.ValueString(), err.Error())
		return
	}
	m.set(info)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// Read looks whether the machine lives. One that does not is gone from the state
// too.
func (r *machineResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m machineModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	dir, err := r.cloud.dir(m.Name.ValueString())
	if err != nil {
		resp.Diagnostics.AddError("cannot read machine", err.Error())
		return
	}
	info, err := machine.Read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("cannot read machine "+m.Name.ValueString(), err.Error())
		return
	}
	m.set(info)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// Update cannot happen: a change of any argument makes another machine.
func (r *machineResource) Update(_ context.Context, _ resource.UpdateRequest, resp *resource.UpdateResponse) {
	resp.Diagnostics.AddError("a machine cannot be changed", "Every change needs a new machine.")
}

// Delete ends the machine and everything on it. One that is gone is deleted.
func (r *machineResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m machineModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	dir, err := r.cloud.dir(m.Name.ValueString())
	if err == nil {
		err = machine.Stop(ctx, dir)
	}
	if err != nil {
		resp.Diagnostics.AddError("cannot end machine "+m.Name.ValueString(), err.Error())
	}
}

// start starts the machine that a resource describes.
func (c *Cloud) start(ctx context.Context, m machineModel) (machine.Info, error) {
	dir, err := c.dir(m.Name.ValueString())
	if err != nil {
		return machine.Info{}, err
	}
	agent, err := c.agentBinary(ctx)
	if err != nil {
		return machine.Info{}, err
	}
	return c.starter.Start(ctx, machine.Options{
		Dir: dir, Name: m.Name.ValueString(), Run: m.Run.ValueString(),
		Key: m.SSHPublicKey.ValueString(), Lease: time.Duration(m.LeaseSeconds.ValueInt64()) * time.Second,
		Agent: agent.path, AgentDigest: agent.digest,
	})
}

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/levinrun/levin/configs"
)

type graphOptions struct {
	App     string
	Mermaid bool
	Set     []string
}

func newGraph(d *deps) *cobra.Command {
	var o graphOptions
	cmd := &cobra.Command{
		Use:   "graph APP",
		Short: "Draw how the components of an app connect",
		Args:  checked(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.App = args[0]
			p, err := d.prepare(o.App, "", o.Set)
			if err != nil {
				return err
			}
			switch {
			case d.json:
				return writeGraphJSON(d.Stdout, p.app)
			case o.Mermaid:
				writeMermaid(d.Stdout, p.app)
			default:
				writeGraph(d.Stdout, p.app)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.Mermaid, "mermaid", false, "as a Mermaid flowchart")
	cmd.Flags().StringArrayVar(&o.Set, "set", nil, "change a key of the app file: KEY=VALUE")
	return cmd
}

func writeGraphJSON(w io.Writer, app *configs.App) error {
	enc := json.NewEncoder(w)
	for _, c := range app.Components {
		node := struct {
			Component string            `json:"component"`
			Needs     []string          `json:"needs"`
			Calls     int               `json:"calls"`
			Resources configs.Resources `json:"resources"`
		}{c.Name, append([]string{}, c.Needs...), max(1, len(c.ForEach)), c.Resources}
		if err := enc.Encode(node); err != nil {
			return err
		}
	}
	return nil
}

// writeGraph draws the app by levels: what stands on one level can run at the
// same time.
func writeGraph(w io.Writer, app *configs.App) {
	fmt.Fprintf(w, "%s\n", app.Name)
	for i, level := range levels(app) {
		fmt.Fprintf(w, "%d.\n", i+1)
		for _, c := range level {
			fmt.Fprintf(w, "   %s", c.Name)
			if len(c.ForEach) > 0 {
				fmt.Fprintf(w, " x%d [%s]", len(c.ForEach), strings.Join(shorten(c.ForEach, 6), ", "))
			}
			if ask := resourcesText(c.Resources); ask != "" {
				fmt.Fprintf(w, "  (%s)", ask)
			}
			if len(c.Needs) > 0 {
				fmt.Fprintf(w, "  <- %s", strings.Join(c.Needs, ", "))
			}
			fmt.Fprintln(w)
		}
	}
}

// levels sorts components by the longest way to them; the app has no cycles.
func levels(app *configs.App) [][]configs.Component {
	depth := map[string]int{}
	byName := map[string]configs.Component{}
	for _, c := range app.Components {
		byName[c.Name] = c
	}
	var measure func(name string) int
	measure = func(name string) int {
		if d, ok := depth[name]; ok {
			return d
		}
		d := 0
		for _, need := range byName[name].Needs {
			d = max(d, measure(need)+1)
		}
		depth[name] = d
		return d
	}
	var out [][]configs.Component
	for _, c := range app.Components {
		for d := measure(c.Name); len(out) <= d; {
			out = append(out, nil)
		}
	}
	for _, c := range app.Components {
		out[depth[c.Name]] = append(out[depth[c.Name]], c)
	}
	return out
}

func writeMermaid(w io.Writer, app *configs.App) {
	fmt.Fprintln(w, "flowchart TD")
	for _, c := range app.Components {
		label := c.Name
		if len(c.ForEach) > 0 {
			label += fmt.Sprintf(" ×%d", len(c.ForEach))
		}
		if ask := resourcesText(c.Resources); ask != "" {
			label += "<br/>" + ask
		}
		// Names are DNS labels; a prefix keeps words that Mermaid reserves apart.
		fmt.Fprintf(w, "  c_%s[\"%s\"]\n", strings.ReplaceAll(c.Name, "-", "_"), strings.ReplaceAll(label, `"`, "#quot;"))
	}
	for _, c := range app.Components {
		for _, need := range c.Needs {
			fmt.Fprintf(w, "  c_%s --> c_%s\n", strings.ReplaceAll(need, "-", "_"), strings.ReplaceAll(c.Name, "-", "_"))
		}
	}
}

// resourcesText says in a few words what a component asks for.
func resourcesText(r configs.Resources) string {
	var parts []string
	if r.Size != "" {
		parts = append(parts, r.Size)
	}
	if r.Machine != "" {
		parts = append(parts, r.Machine)
	}
	if g := r.GPU; g != nil {
		text := strings.Join(g.Models, "|")
		if text == "" {
			text = "any GPU"
		}
		if g.Count > 1 {
			text += fmt.Sprintf(":%d", g.Count)
		}
		if !g.Memory.IsZero() {
			text += " " + rangeText(g.Memory) + " GB"
		}
		parts = append(parts, text)
	}
	for _, q := range []struct {
		r    configs.Range
		unit string
	}{{r.CPUs, "cpus"}, {r.Memory, "GB memory"}, {r.Disk, "GB disk"}} {
		if !q.r.IsZero() {
			parts = append(parts, rangeText(q.r)+" "+q.unit)
		}
	}
	if r.Arch != "" {
		parts = append(parts, r.Arch)
	}
	if len(r.AnyOf) > 0 {
		parts = append(parts, fmt.Sprintf("any of %d", len(r.AnyOf)))
	}
	return strings.Join(parts, ", ")
}

func rangeText(r configs.Range) string {
	switch {
	case r.Min == r.Max:
		return fmt.Sprintf("%g", r.Min)
	case r.Max == 0:
		return fmt.Sprintf("%g..", r.Min)
	case r.Min == 0:
		return fmt.Sprintf("..%g", r.Max)
	}
	return fmt.Sprintf("%g..%g", r.Min, r.Max)
}

func shorten(items []string, most int) []string {
	if len(items) <= most {
		return items
	}
	return append(items[:most:most], fmt.Sprintf("and %d more", len(items)-most))
}

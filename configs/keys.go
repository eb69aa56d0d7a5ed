package configs

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// appKeys is the table of the top of the app file.
func appKeys() object[appReader] {
	return object[appReader]{
		{"name", "The app's name: a DNS label of at most 40 letters.", labelSchema(maxName), func(d *document, n *yaml.Node, r *appReader) {
			if s, ok := d.text(n, "name", false); ok {
				d.label(n, "the app's name", s)
				r.app.Name = s
			}
		}},
		{"env", "Variables for every component.", environmentSchema(), func(d *document, n *yaml.Node, r *appReader) {
			r.app.Env, r.env = d.environment(n, "env")
		}},
		{"on_failure", "When a call has failed for good: cancel stops the rest, continue lets branches that do not need it finish.",
			schema{"enum": []string{"cancel", "continue"}, "default": "cancel"},
			func(d *document, n *yaml.Node, r *appReader) {
				r.app.OnFailure = OnFailure(d.oneOf(n, "on_failure", string(Cancel), string(Continue)))
			}},
		{"max_parallel", "Calls at the same time in the whole run; no limit when left out.", wholeSchema(1),
			func(d *document, n *yaml.Node, r *appReader) { r.app.MaxParallel = d.whole(n, "max_parallel", 1) }},
		{"components", "The components by name.",
			schema{"type": "object", "minProperties": 1, "propertyNames": labelSchema(maxName), "additionalProperties": schema{"$ref": "#/$defs/component"}},
			func(_ *document, n *yaml.Node, r *appReader) { r.readComponents(n) }},
		{"ttl", "How long a machine may live before its cloud ends it, whatever becomes of Levin; from 1m to 2880h.", durationSchema("24h"),
			func(d *document, n *yaml.Node, r *appReader) {
				r.app.TTL = d.atLeast(n, "ttl", leastTTL)
				if r.app.TTL > mostTTL {
					d.fail(n, n.Value, "ttl must be at most 2880h (120 days), is %s", n.Value)
				}
			}},
		{name: "schedule"},
		{name: "engine"},
	}
}

// componentKeys is the table of a component.
func componentKeys(resources resourceReader) object[source] {
	return object[source]{
		{"resources", "The machine it needs: a mapping, or the name of a size. Any machine when left out.", schema{"$ref": "#/$defs/resources"},
			func(d *document, n *yaml.Node, s *source) { resources.read(d, n, &s.Resources) }},
		{"needs", "Components that must have succeeded before this one starts.", textOrAnyListSchema(),
			func(d *document, n *yaml.Node, s *source) { s.Needs = d.texts(n, "needs") }},
		{"for_each", "One call for each item; ${each} is the item.",
			schema{"type": "array", "minItems": 1, "uniqueItems": true, "items": schema{"type": []string{"string", "number", "boolean"}}}, readForEach},
		{"max_machines", "Machines that the component holds at the same time; default from the settings.", wholeSchema(1),
			func(d *document, n *yaml.Node, s *source) { s.MaxMachines = d.whole(n, "max_machines", 1) }},
		{"files", "Files and folders to ship, relative to the app's folder; default the whole folder; an empty list ships nothing.", textOrAnyListSchema(),
			func(d *document, n *yaml.Node, s *source) { s.Files = d.texts(n, "files") }},
		{"build", "Shell command run here, in the app's folder, before shipping; LEVIN_TARGET_OS and LEVIN_TARGET_ARCH are set.", commandSchema(),
			func(d *document, n *yaml.Node, s *source) { s.Build = d.command(n, "build") }},
		{"setup", "Shell command on the machine, once per machine and content.", commandSchema(),
			func(d *document, n *yaml.Node, s *source) { s.Setup = d.command(n, "setup") }},
		{"run", "What to run: a shell line, or a list that no shell sees.",
			schema{"anyOf": []any{commandSchema(), schema{"type": "array", "minItems": 1, "items": schema{"type": []string{"string", "number", "boolean"}}}}}, readCommand},
		{"outputs", "Paths and globs, relative to the work folder, that come back and go on to dependants; ** is any depth.", textOrAnyListSchema(),
			func(d *document, n *yaml.Node, s *source) { s.Outputs = d.texts(n, "outputs") }},
		{"checkpoint", "Paths and globs like outputs that come back when a machine is taken back while the work runs, and are in place for the next attempt.", textOrAnyListSchema(),
			func(d *document, n *yaml.Node, s *source) { s.Checkpoint = d.texts(n, "checkpoint") }},
		{"output_size", "What the outputs of one call come to, about, such as 20GB; the plan prices moving them.", rangeSchema(true),
			func(d *document, n *yaml.Node, s *source) { s.OutputSize = d.size(n, "output_size") }},
		{"ports", "TCP ports of the machine that its firewall opens, beside 22.", portsSchema(), readPorts},
		{"env", "Variables, put over those of the app; values may hold expressions.", environmentSchema(),
			func(d *document, n *yaml.Node, s *source) { s.Env, s.env = d.environment(n, "env") }},
		{"retries", "Further attempts after the first.", schema{"type": "integer", "minimum": 0, "default": 0},
			func(d *document, n *yaml.Node, s *source) { s.Retries = d.whole(n, "retries", 0) }},
		{"timeout", "Of one attempt's work, setup and run; none when 0 or left out.", durationSchema(""),
			func(d *document, n *yaml.Node, s *source) { s.Timeout = d.duration(n, "timeout") }},
		{"start_timeout", "From the request to a machine that answers; above 0.", durationSchema("15m"),
			func(d *document, n *yaml.Node, s *source) {
				s.StartTimeout = d.positive(n, "start_timeout", "a machine needs time to start")
			}},
		{"idle_timeout", "How long an idle machine waits for another call.", durationSchema("0s"),
			func(d *document, n *yaml.Node, s *source) { s.IdleTimeout = d.duration(n, "idle_timeout") }},
		{"grace", "Between TERM and KILL when work is stopped; with 0 KILL follows at once.", durationSchema("10s"),
			func(d *document, n *yaml.Node, s *source) { s.Grace = max(d.duration(n, "grace"), leastGrace) }},
		{"nodes", "Machines that work on one call: 1.", schema{"const": 1}, func(d *document, n *yaml.Node, _ *source) {
			if count := d.whole(n, "nodes", 1); count > 1 {
				d.fail(n, n.Value, "nodes: %d is not supported yet; only 1 is", count)
			}
		}},
		{name: "schedule"},
		{name: "serve"},
		{name: "replicas"},
		{name: "engine"},
	}
}

func readCommand(d *document, n *yaml.Node, s *source) {
	if n.Kind != yaml.SequenceNode {
		s.Run.Shell = d.command(n, "run")
		return
	}
	if len(n.Content) == 0 {
		d.fail(n, "", "run is an empty list")
	}
	s.Run.Args = []string{}
	for i, item := range n.Content {
		arg, ok := d.text(item, "run", true)
		if ok && i == 0 && strings.TrimSpace(arg) == "" {
			d.fail(item, arg, "run names no program")
		}
		s.Run.Args = append(s.Run.Args, arg)
	}
}

func readForEach(d *document, n *yaml.Node, s *source) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, n.Value, "for_each must be a list, is %s", kindOf(n))
		return
	}
	if len(n.Content) == 0 {
		d.fail(n, "", "for_each is empty: there would be no call; leave it out for one call")
	}
	lines := map[string]int{}
	s.ForEach = []string{}
	for _, item := range n.Content {
		text, ok := d.text(item, "an item of for_each", true)
		switch line, twice := lines[text]; {
		case !ok:
		case text == "":
			d.fail(item, text, "an item of for_each is empty")
		case twice:
			d.fail(item, text, "the item %s is in for_each twice; it is also on line %d", quote(text), line)
		default:
			lines[text] = item.Line
			s.ForEach = append(s.ForEach, text)
		}
	}
}

func readPorts(d *document, n *yaml.Node, s *source) {
	d.notEmpty(n, "ports", nil)
	lines := map[int]int{}
	for _, item := range d.items(n, "ports") {
		port := d.port(item, "a port")
		switch line, twice := lines[port]; {
		case port == 0:
		case port == 22:
			d.fail(item, item.Value, "port 22 is open already, for Levin")
		case twice:
			d.fail(item, item.Value, "the port %d is in ports twice; it is also on line %d", port, line)
		default:
			lines[port] = item.Line
			s.Ports = append(s.Ports, port)
		}
	}
}

package emulator

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// gcpOperation is something that is done to a thing. Its name says what it is, so
// that nobody has to keep it.
type gcpOperation struct {
	typ   string
	path  string // of the thing
	begun time.Time
	words string
}

const operationPrefix = "operation-"

func (o gcpOperation) name() string {
	return operationPrefix + hex.EncodeToString([]byte(o.typ+" "+o.path))
}

// show gives an operation as Compute Engine does.
func (o gcpOperation) show(status string) map[string]any {
	where := o.path[:strings.LastIndexByte(o.path[:strings.LastIndexByte(o.path, '/')], '/')] // without collection and name
	shown := map[string]any{
		"kind": "compute#operation", "id": googleNumber(o.name()), "name": o.name(), "operationType": o.typ, "status": status,
		"targetLink": googleLink(o.path), "targetId": googleNumber(o.path), "user": "levin@" + project + ".iam.gserviceaccount.com",
		"selfLink": googleLink(where + "/operations/" + o.name()), "insertTime": googleTime(o.begun), "startTime": googleTime(o.begun),
	}
	if o.words != "" {
		shown["statusMessage"] = o.words
	}
	switch parts := strings.Split(where, "/"); parts[2] {
	case "zones":
		shown["zone"] = googleLink(where)
	case "regions":
		shown["region"] = googleLink(where)
	}
	shown["progress"] = 0
	if status == "DONE" {
		shown["progress"] = 100
		shown["endTime"] = googleTime(time.Now())
	}
	return shown
}

// operation gives the operation that the path names.
func (c *gcpCall) operation() (gcpOperation, error) {
	name := c.http.PathValue("operation")
	where := "projects/" + project + "/global/"
	switch {
	case c.zone() != "":
		where = "projects/" + project + "/zones/" + c.zone() + "/"
	case c.region() != "":
		where = "projects/" + project + "/regions/" + c.region() + "/"
	}
	code, named := strings.CutPrefix(name, operationPrefix)
	text, err := hex.DecodeString(code)
	typ, path, found := strings.Cut(string(text), " ")
	if !named || err != nil || !found || !strings.HasPrefix(path, where) {
		return gcpOperation{}, gcpNotFound(where + "operations/" + name)
	}
	return gcpOperation{typ: typ, path: path, begun: time.Now()}, nil
}

// waitsFor says whether an operation goes on because a thing is as it is.
func (o gcpOperation) waitsFor(t *Thing) bool {
	if !t.instance() || !t.exists() || !strings.HasSuffix(o.path, "/"+t.ID) || googlePath(*t) != o.path {
		return false
	}
	return o.typ == "delete" || o.typ == "insert" && t.State == Pending
}

// status says how far an operation is.
func (c *gcpCall) status(o gcpOperation) string {
	for _, t := range c.api.Things(GCP, "google_compute_instance") {
		if o.waitsFor(&t) {
			return "RUNNING"
		}
	}
	return "DONE"
}

func getOperation(c *gcpCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	o, err := c.operation()
	if err != nil {
		return nil, err
	}
	return o.show(c.status(o)), nil
}

// waitOperation answers when the operation is done, or after two minutes.
func waitOperation(c *gcpCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	o, err := c.operation()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.http.Context(), 2*time.Minute)
	defer cancel()
	if err := c.await(ctx, o); err != nil && c.http.Context().Err() != nil {
		return nil, err
	}
	return o.show(c.status(o)), nil
}

// await returns when an operation is done, or ctx ends.
func (c *gcpCall) await(ctx context.Context, o gcpOperation) error {
	if e, ok := c.api.(*Emulator); ok { // which tells when something changes
		return e.await(ctx, func() bool { return !slices.ContainsFunc(e.things, o.waitsFor) })
	}
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for c.status(o) != "DONE" {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// listOperations lists what has been done to the instances of a zone: their
// creation, and what has ended them. Of Compute Engine's own doing the type says
// what it was (compute.instances.preempted).
func listOperations(c *gcpCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	filters, err := c.filters("name", "targetLink", "operationType", "status")
	if err != nil {
		return nil, err
	}
	var all []any
	add := func(o gcpOperation, status string) {
		fields := map[string]string{"name": o.name(), "targetLink": googleLink(o.path), "operationType": o.typ, "status": status}
		if passesGCP(filters, func(name string) (string, bool) { v, ok := fields[name]; return v, ok }) {
			all = append(all, o.show(status))
		}
	}
	for _, t := range c.api.Things(GCP, "google_compute_instance") {
		if t.Zone != c.zone() {
			continue
		}
		status := "DONE"
		if t.State == Pending {
			status = "RUNNING"
		}
		add(gcpOperation{typ: "insert", path: googlePath(t), begun: t.CreatedAt}, status)
		if t.Reason == "" {
			continue
		}
		typ, words, _ := strings.Cut(t.Reason, ": ")
		if !strings.HasPrefix(typ, "compute.instances.") {
			typ, words = "delete", ""
		}
		if status = "DONE"; t.State == Terminating {
			status = "RUNNING"
		}
		// When it was asked for is not in the books; it was after the creation.
		add(gcpOperation{typ: typ, path: googlePath(t), begun: t.CreatedAt.Add(time.Millisecond), words: words}, status)
	}
	page, next, err := gcpPageOf(c, all, "maxResults", gcpPage)
	if err != nil {
		return nil, err
	}
	return withNext(map[string]any{"kind": "compute#operationList", "items": page}, next), nil
}

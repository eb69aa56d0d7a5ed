package emulator

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func (e *Emulator) serveAWS(w http.ResponseWriter, r *http.Request) {
	awsHandler{api: e, count: e.count}.ServeHTTP(w, r)
}

// AWSHandler serves the APIs of EC2, STS, Service Quotas and Pricing over the
// things of a cloud, all at one address: the region and the service are those that
// the request is signed for.
func AWSHandler(api API) http.Handler { return awsHandler{api: api, count: func(string) {}} }

type awsHandler struct {
	api   API
	count func(action string)
}

// scope is the part of a signature that says where and to what the request goes:
// Credential=<key>/<day>/<region>/<service>/aws4_request.
var scope = regexp.MustCompile(`Credential=[^/]+/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request`)

// ServeHTTP answers one request.
func (h awsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	signed := scope.FindStringSubmatch(r.Header.Get("Authorization"))
	if signed == nil || r.Method != http.MethodPost {
		failXML(w, apiError{http.StatusUnauthorized, "AuthFailure", "AWS was not able to validate the provided access credentials"})
		return
	}
	region, service := signed[1], signed[2]
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	switch service {
	case "ec2", "sts":
		h.query(w, r, region, service, string(body))
	case "servicequotas", "pricing":
		h.json(w, r, region, body)
	default:
		failXML(w, apiError{http.StatusBadRequest, "InvalidAction", "this cloud has no service " + service})
	}
}

// query answers the query protocol: a form in, XML out.
func (h awsHandler) query(w http.ResponseWriter, r *http.Request, region, service, body string) {
	form, err := url.ParseQuery(body)
	if err != nil {
		failXML(w, apiError{http.StatusBadRequest, "MalformedQueryString", "The query string contains a syntax error."})
		return
	}
	call := &awsCall{api: h.api, http: r, region: region, form: form, read: map[string]bool{}}
	action := call.value("Action")
	call.value("Version")
	h.count(action)
	actions := ec2Actions()
	if service == "sts" {
		actions = map[string]awsAction{"GetCallerIdentity": getCallerIdentity}
	}
	do, ok := actions[action]
	if !ok {
		failXML(w, apiError{http.StatusBadRequest, "InvalidAction", fmt.Sprintf("The action %s is not valid for this web service.", action)})
		return
	}
	answer, err := do(call)
	if call.unsaid {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	if err == nil || err == errDryRun {
		if unknown := call.unread(); unknown != nil {
			err = unknown
		}
	}
	if err != nil {
		failXML(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	io.WriteString(w, xml.Header)
	xml.NewEncoder(w).EncodeElement(answer, xml.StartElement{Name: xml.Name{Local: action + "Response"}})
}

type awsAction func(*awsCall) (any, error)

func badParameter(format string, args ...any) error {
	return apiError{http.StatusBadRequest, "InvalidParameterValue", fmt.Sprintf(format, args...)}
}

// errDryRun is the answer to a request that would be carried out.
var errDryRun error = apiError{http.StatusPreconditionFailed, "DryRunOperation", "Request would have succeeded, but DryRun flag is set."}

func asAWS(err error) apiError {
	if e, ok := err.(apiError); ok {
		return e
	}
	return apiError{http.StatusInternalServerError, "InternalError", err.Error()}
}

func failXML(w http.ResponseWriter, err error) {
	e := asAWS(err)
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(e.status)
	io.WriteString(w, xml.Header)
	xml.NewEncoder(w).Encode(struct {
		XMLName struct{} `xml:"Response"`
		Code    string   `xml:"Errors>Error>Code"`
		Message string   `xml:"Errors>Error>Message"`
		ID      string   `xml:"RequestID"`
	}{Code: e.code, Message: e.message, ID: requestID()})
}

// awsCall is one request of the query protocol.
type awsCall struct {
	api    API
	http   *http.Request
	region string
	form   url.Values
	read   map[string]bool
	unsaid bool // what is asked is done, and the answer does not arrive
}

// value gives a parameter, "" for one that is not given.
func (c *awsCall) value(name string) string {
	c.read[name] = true
	return c.form.Get(name)
}

// list gives a parameter of several values: Name.1, Name.2, …
func (c *awsCall) list(name string) []string {
	var all []string
	for n := 1; ; n++ {
		key := fmt.Sprintf("%s.%d", name, n)
		if !c.form.Has(key) {
			return all
		}
		all = append(all, c.value(key))
	}
}

// unread refuses parameters that nobody has looked at.
func (c *awsCall) unread() error {
	for name := range c.form {
		if !c.read[name] {
			return apiError{http.StatusBadRequest, "UnknownParameter", fmt.Sprintf("The parameter %s is not recognized", name)}
		}
	}
	return nil
}

// fails is what a fault makes of the request.
func (c *awsCall) fails(op string, t Thing) error {
	kind, hit := c.api.Check(c.http.Context(), AWS, op, c.region, t.Zone, t.Type, t.Spot)
	if !hit {
		return nil
	}
	switch kind {
	case FaultUnsaid:
		c.unsaid = true
		return nil
	case FaultHang:
		<-c.http.Context().Done()
		panic(http.ErrAbortHandler)
	}
	return tfFaultAWS(kind, request{cloud: AWS, op: op, region: c.region, zone: t.Zone, typ: t.Type, spot: t.Spot, instance: true})
}

// dry ends a request that only asks whether it would be carried out.
func (c *awsCall) dry() error {
	switch c.value("DryRun") {
	case "", "false":
		return nil
	}
	return errDryRun
}

// filters reads Filter.N.Name and Filter.N.Value.M.
func (c *awsCall) filters() map[string][]string {
	all := map[string][]string{}
	for n := 1; ; n++ {
		prefix := fmt.Sprintf("Filter.%d.", n)
		if !c.form.Has(prefix + "Name") {
			return all
		}
		all[c.value(prefix+"Name")] = c.list(prefix + "Value")
	}
}

// things gives the region's things of a kind that pass the request's filters.
// fields are the filters beyond tags that the kind has.
func (c *awsCall) things(kind string, fields map[string]func(Thing) string) ([]Thing, error) {
	filters := c.filters()
	for name, values := range filters {
		_, known := fields[name]
		if !known && name != "tag-key" && !strings.HasPrefix(name, "tag:") {
			return nil, badParameter("The filter '%s' is invalid", name)
		}
		if len(values) == 0 || len(values) > 200 {
			return nil, badParameter("The filter '%s' has %d values", name, len(values))
		}
	}
	var all []Thing
	for _, t := range c.api.Things(AWS, kind) {
		if t.Region == c.region && passes(t, filters, fields) {
			all = append(all, t)
		}
	}
	return all, nil
}

func passes(t Thing, filters map[string][]string, fields map[string]func(Thing) string) bool {
	for name, values := range filters {
		key, byTag := strings.CutPrefix(name, "tag:")
		has := false
		switch {
		case name == "tag-key":
			for _, key := range values {
				_, there := t.Tags[key]
				has = has || there
			}
		case byTag:
			value, there := t.Tags[key]
			has = there && slices.Contains(values, value)
		default:
			has = slices.Contains(values, fields[name](t))
		}
		if !has {
			return false
		}
	}
	return true
}

// pageOf cuts out the page that the request asks for, of at most limit items, and
// gives the token of the next one.
func pageOf[T any](c *awsCall, all []T, limit int) (page []T, next string, err error) {
	if s := c.value("MaxResults"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, "", badParameter("Value ( %s ) for parameter maxResults is invalid", s)
		}
		limit = min(limit, n)
	}
	return cut(all, c.value("NextToken"), limit)
}

func cut[T any](all []T, token string, limit int) (page []T, next string, err error) {
	from := 0
	if token != "" {
		b, err := base64.StdEncoding.DecodeString(token)
		if err == nil {
			from, err = strconv.Atoi(string(b))
		}
		if err != nil || from < 0 || from > len(all) {
			return nil, "", apiError{http.StatusBadRequest, "InvalidNextToken", "The token is not valid."}
		}
	}
	to := min(from+limit, len(all))
	if to < len(all) {
		next = base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(to)))
	}
	return all[from:to], next, nil
}

// json answers the JSON protocol: the operation is named in a header.
func (h awsHandler) json(w http.ResponseWriter, r *http.Request, region string, body []byte) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	h.count(operation)
	call := &awsCall{api: h.api, http: r, region: region}
	answer, err := any(nil), call.fails("describe", Thing{})
	if err == nil {
		switch operation {
		case "GetServiceQuota", "GetAWSDefaultServiceQuota":
			answer, err = getQuota(operation, body)
		case "GetProducts":
			answer, err = getProducts(body)
		default:
			err = apiError{http.StatusBadRequest, "UnknownOperationException", "there is no operation " + operation}
		}
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if err != nil {
		e := asAWS(err)
		w.Header().Set("X-Amzn-Errortype", e.code)
		w.WriteHeader(e.status)
		answer = map[string]string{"__type": e.code, "Message": e.message}
	}
	json.NewEncoder(w).Encode(answer)
}

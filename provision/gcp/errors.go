package gcp

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
)

// What people can do about failures of several codes.
const (
	nextQuota       = "ask for a higher limit under IAM & Admin, Quotas, in Google's console, or let the app use other types or regions"
	nextGlobalQuota = "ask for a higher limit (GPUS_ALL_REGIONS is 0 in a new project) under IAM & Admin, Quotas, in Google's console"
	nextSignIn      = "sign in anew: `gcloud auth application-default login`"
	nextCredentials = "set up credentials (`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS) and see what `levin doctor` says of this cloud"
	nextPermission  = "`levin doctor` shows which permissions are missing; whoever manages the project can grant them"
	nextAPI         = "switch the API on (`gcloud services enable compute.googleapis.com`, or the one that is named) and give that some minutes"
	nextBilling     = "link the project to a billing account, in Google's console"
	nextProject     = "see project in the settings and GOOGLE_CLOUD_PROJECT"
	nextLeftOver    = "something of that name was left behind: `levin gc` lists and removes what Levin has made"
	nextReach       = "see whether this computer reaches the internet, and endpoint in the settings"
)

// meaning is one row of the table: what a code of the API means, or, where no code
// says it, a part of the message (in lower case, … stands for anything).
type meaning struct {
	Code   string
	Saying string
	provision.Verdict
}

func code(code string, kind cluster.FailureKind, scope provision.Scope, next string) meaning {
	return meaning{Code: code, Verdict: provision.Verdict{Kind: kind, Scope: scope, Next: next}}
}

func said(text string, kind cluster.FailureKind, scope provision.Scope, next string) meaning {
	return meaning{Saying: text, Verdict: provision.Verdict{Kind: kind, Scope: scope, Next: next}}
}

// meanings are the codes and words of Compute Engine and of what stands before it
// (IAM, the switch of the API, the sign-in service); the first row that fits
// counts. Codes come in three kinds that mean the same: reasons of the API's errors
// (quotaExceeded), codes of operations that failed (QUOTA_EXCEEDED), and Google's
// general reasons and statuses (RATE_LIMIT_EXCEEDED, PERMISSION_DENIED).
// https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation
// https://cloud.google.com/compute/docs/reference/rest/v1/instances (errors)
// https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto
func meanings() []meaning {
	const (
		zone    = provision.ScopeZone
		region  = provision.ScopeRegion
		account = provision.ScopeAccount
	)
	return []meaning{
		// Too many requests: before quotas, since Google calls this a quota, too.
		code("rateLimitExceeded", cluster.Throttled, region, ""),
		code("userRateLimitExceeded", cluster.Throttled, region, ""),
		code("RATE_LIMIT_EXCEEDED", cluster.Throttled, region, ""),
		code("concurrentLimitExceeded", cluster.Throttled, region, ""),
		code("RESOURCE_OPERATION_RATE_EXCEEDED", cluster.Throttled, region, ""),
		code("resourceOperationRateExceeded", cluster.Throttled, region, ""),
		said("quota exceeded for quota metric…per minute", cluster.Throttled, region, ""),

		// No machine of the kind is to be had right now.
		code("ZONE_RESOURCE_POOL_EXHAUSTED", cluster.Capacity, zone, ""),
		code("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", cluster.Capacity, zone, ""),
		code("zoneResourcePoolExhausted", cluster.Capacity, zone, ""),
		code("REGION_RESOURCE_POOL_EXHAUSTED", cluster.Capacity, region, ""),
		code("stockout", cluster.Capacity, zone, ""),
		code("STOCKOUT", cluster.Capacity, zone, ""),
		code("compute.instances.preempted", cluster.Capacity, zone, ""),
		said("does not have enough resources available to fulfill", cluster.Capacity, zone, ""),
		said("is currently unavailable in the…zone", cluster.Capacity, zone, ""),
		said("resource pool exhausted", cluster.Capacity, zone, ""),
		said("stockout", cluster.Capacity, zone, ""),
		said("ip space…is exhausted", cluster.Capacity, region, "the subnetwork has no free addresses; name others under subnets in the settings"),
		code("IP_SPACE_EXHAUSTED", cluster.Capacity, region, "the subnetwork has no free addresses; name others under subnets in the settings"),
		code("IP_SPACE_EXHAUSTED_WITH_DETAILS", cluster.Capacity, region, "the subnetwork has no free addresses; name others under subnets in the settings"),

		// The zone does not have the type at all.
		said("machine type with name…does not exist in zone", cluster.Capacity, zone, ""),
		said("/machinetypes/…was not found", cluster.Capacity, zone, ""),
		said("/acceleratortypes/…was not found", cluster.Capacity, zone, ""),
		said("/disktypes/…was not found", cluster.Capacity, zone, "see disk_type in the settings"),
		said("is not supported in the…zone", cluster.Capacity, zone, ""),

		// Limits of the project.
		said("quota 'gpus_all_regions' exceeded", cluster.Quota, account, nextGlobalQuota),
		said("quota 'cpus_all_regions' exceeded", cluster.Quota, account, nextQuota),
		said("exceeded…globally.", cluster.Quota, account, nextQuota),
		said("quota…exceeded…in region", cluster.Quota, region, nextQuota),
		said("insufficient regional quota", cluster.Quota, region, nextQuota),
		said("exceeds limit for quota", cluster.Quota, region, nextQuota),
		code("QUOTA_EXCEEDED", cluster.Quota, region, nextQuota),
		code("quotaExceeded", cluster.Quota, region, nextQuota),
		code("limitExceeded", cluster.Quota, region, nextQuota),
		code("LIMIT_EXCEEDED", cluster.Quota, region, nextQuota),
		code("RESOURCE_EXHAUSTED", cluster.Throttled, region, ""), // of the APIs in general: too many requests

		// Who asks, and for which project.
		code("accessNotConfigured", cluster.Auth, account, nextAPI),
		code("SERVICE_DISABLED", cluster.Auth, account, nextAPI),
		said("has not been used in project…or it is disabled", cluster.Auth, account, nextAPI),
		code("billingDisabled", cluster.Auth, account, nextBilling),
		code("BILLING_DISABLED", cluster.Auth, account, nextBilling),
		code("accountDisabled", cluster.Auth, account, nextBilling),
		code("UREQ_PROJECT_BILLING_NOT_FOUND", cluster.Auth, account, nextBilling),
		said("requires billing to be enabled", cluster.Auth, account, nextBilling),
		said("billing account…is disabled", cluster.Auth, account, nextBilling),
		code("SERVICE_ACCOUNT_ACCESS_DENIED", cluster.Auth, account, "whoever asks may not use the service account that role names in the settings (roles/iam.serviceAccountUser)"),
		code("serviceAccountAccessDenied", cluster.Auth, account, "whoever asks may not use the service account that role names in the settings (roles/iam.serviceAccountUser)"),
		code("USER_PROJECT_DENIED", cluster.Auth, account, "`gcloud auth application-default set-quota-project` names a project that may be used"),
		code("CONSUMER_INVALID", cluster.Auth, account, nextProject),
		said("failed to find project", cluster.Auth, account, nextProject),
		said("unknown project id", cluster.Auth, account, nextProject),
		said("invalid_grant", cluster.Auth, account, nextSignIn),
		said("invalid_rapt", cluster.Auth, account, nextSignIn),
		said("token has been expired or revoked", cluster.Auth, account, nextSignIn),
		said("invalid_client", cluster.Auth, account, nextCredentials),
		said("unauthorized_client", cluster.Auth, account, nextCredentials),
		said("could not find default credentials", cluster.Auth, account, nextCredentials),
		said("no credentials loaded", cluster.Auth, account, nextCredentials),
		said("these are no credentials of google", cluster.Auth, account, nextCredentials),
		said("cannot fetch token", cluster.Auth, account, nextSignIn),
		said("google_application_credentials: open", cluster.Auth, account, nextCredentials),
		code("authError", cluster.Auth, account, nextSignIn),
		code("UNAUTHENTICATED", cluster.Auth, account, nextSignIn),
		code("ACCESS_TOKEN_EXPIRED", cluster.Auth, account, nextSignIn),
		code("ACCESS_TOKEN_SCOPE_INSUFFICIENT", cluster.Auth, account, "the VM that Levin runs on was made without the scope cloud-platform"),
		code("insufficientPermissions", cluster.Auth, account, "the VM that Levin runs on was made without the scope cloud-platform"),
		code("required", cluster.BadRequest, account, ""),
		said("required '…' permission", cluster.Auth, account, nextPermission),
		code("PERMISSION_DENIED", cluster.Auth, account, nextPermission),
		code("PERMISSIONS_ERROR", cluster.Auth, account, nextPermission),
		code("IAM_PERMISSION_DENIED", cluster.Auth, account, nextPermission),
		code("ACCESS_DENIED", cluster.Auth, account, nextPermission),
		code("accessDenied", cluster.Auth, account, nextPermission),
		code("permissionDenied", cluster.Auth, account, nextPermission),
		code("forbidden", cluster.Auth, account, nextPermission),
		code("FORBIDDEN", cluster.Auth, account, nextPermission),

		// What was asked.
		said("constraint constraints/…violated", cluster.BadRequest, account, "a policy of the organization forbids it; for compute.vmExternalIpAccess set private in the settings"),
		code("CONDITION_NOT_MET", cluster.BadRequest, account, "a policy of the organization forbids it"),
		code("conditionNotMet", cluster.BadRequest, account, "a policy of the organization forbids it"),
		said("could not find image or family", cluster.BadRequest, account, "see image in the settings"),
		said("/images/…was not found", cluster.BadRequest, account, "see image in the settings"),
		said("there is no public image with gpu drivers", cluster.BadRequest, account, "name an image in the settings"),
		said("/networks/…was not found", cluster.BadRequest, account, "the project has no such network: `gcloud compute networks create default`, or name one in the settings"),
		said("/subnetworks/…was not found", cluster.BadRequest, region, "see subnets in the settings"),
		said("must specify the subnetwork", cluster.BadRequest, account, "the network has no subnetwork of its own in every region: name some under subnets in the settings"),
		said("features are not compatible for creating instance", cluster.BadRequest, account, ""),
		code("alreadyExists", cluster.BadRequest, account, nextLeftOver),
		code("RESOURCE_ALREADY_EXISTS", cluster.BadRequest, account, nextLeftOver),
		code("ALREADY_EXISTS", cluster.BadRequest, account, nextLeftOver),

		// Not now. A request that can be sent again as it is.
		code("resourceNotReady", cluster.Transient, region, ""),
		code("RESOURCE_NOT_READY", cluster.Transient, region, ""),
		code("resourceInUseByAnotherResource", cluster.Transient, region, ""),
		code("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", cluster.Transient, region, ""),
		code("internalError", cluster.Transient, region, ""),
		code("INTERNAL_ERROR", cluster.Transient, region, ""),
		code("INTERNAL", cluster.Transient, region, ""),
		code("backendError", cluster.Transient, region, ""),
		code("BACKEND_ERROR", cluster.Transient, region, ""),
		code("serviceUnavailable", cluster.Transient, region, ""),
		code("UNAVAILABLE", cluster.Transient, region, ""),
		code("SERVICE_UNAVAILABLE", cluster.Transient, region, ""),
		code("DEADLINE_EXCEEDED", cluster.Transient, region, ""),
		code("ABORTED", cluster.Transient, region, ""),
		code("badGateway", cluster.Transient, region, ""),
		code("gatewayTimeout", cluster.Transient, region, ""),
		code("conflict", cluster.Transient, region, ""),

		code("UNSUPPORTED_OPERATION", cluster.BadRequest, region, ""),
		code("unsupportedOperation", cluster.BadRequest, region, ""),
		code("INVALID_USAGE", cluster.BadRequest, account, ""),
		code("INVALID_FIELD_VALUE", cluster.BadRequest, account, ""),
		code("INVALID_ARGUMENT", cluster.BadRequest, account, ""),
		code("FAILED_PRECONDITION", cluster.BadRequest, account, ""),
		code("failedPrecondition", cluster.BadRequest, account, ""),
		code("badRequest", cluster.BadRequest, account, ""),
		code("invalidParameter", cluster.BadRequest, account, ""),
		code("invalid", cluster.BadRequest, account, ""),
		code("RESOURCE_NOT_FOUND", cluster.BadRequest, region, ""),
		code("NOT_FOUND", cluster.BadRequest, region, ""),
		code("notFound", cluster.BadRequest, region, ""),

		// What HTTP says, when nothing else does.
		said("error 400:", cluster.BadRequest, account, ""),
		said("error 401:", cluster.Auth, account, nextSignIn),
		said("error 403:", cluster.Auth, account, nextPermission),
		said("error 404:", cluster.BadRequest, region, ""),
		said("error 429:", cluster.Throttled, region, ""),
		said("error 500:", cluster.Transient, region, ""),
		said("error 502:", cluster.Transient, region, ""),
		said("error 503:", cluster.Transient, region, ""),
		said("error 504:", cluster.Transient, region, ""),

		// What the network says.
		said("no such host", cluster.Transient, region, nextReach),
		said("connection refused", cluster.Transient, region, nextReach),
		said("connection reset by peer", cluster.Transient, region, ""),
		said("tls handshake timeout", cluster.Transient, region, ""),
		said("i/o timeout", cluster.Transient, region, ""),
		said("unexpected eof", cluster.Transient, region, ""),
		said("server closed idle connection", cluster.Transient, region, ""),
	}
}

// Judge says what a message of Terraform or of the SDK means: by the first row of
// the table that fits it.
func (c *Cloud) Judge(words string) (provision.Verdict, bool) { return judgeWords(words) }

func judgeWords(words string) (provision.Verdict, bool) {
	codes := codesIn(words)
	lower := strings.ToLower(words)
	for _, m := range meanings() {
		if (m.Code == "" || codes[m.Code]) && says(lower, m.Saying) {
			return m.Verdict, true
		}
	}
	return provision.Verdict{}, false
}

// says reports whether a text holds the parts of a saying, which … separates, on
// one line and in their order.
func says(text, saying string) bool {
	if saying == "" {
		return true
	}
	parts := strings.Split(saying, "…")
	for line := range strings.Lines(text) {
		held := true
		for _, part := range parts {
			_, rest, found := strings.Cut(line, part)
			if held = held && found; !held {
				break
			}
			line = rest
		}
		if held {
			return true
		}
	}
	return false
}

// codesIn gives the words of a text that may be codes. What looks like nothing
// else (QUOTA_EXCEEDED, quotaExceeded) may stand anywhere; a code that is also an
// English word (forbidden, invalid) counts only where the APIs, the SDK and the
// provider put one: at the end of a line after a comma ("Error 403: …, forbidden"),
// as a reason, or before a colon at the beginning.
func codesIn(text string) map[string]bool {
	codes := map[string]bool{}
	for start := 0; start < len(text); {
		if !inCode(text[start]) {
			start++
			continue
		}
		end := start
		for end < len(text) && inCode(text[end]) {
			end++
		}
		word := strings.Trim(text[start:end], ".")
		before, after := text[:start], text[end:]
		if !english(word) || after == "" && before == "" || start == 0 && strings.HasPrefix(after, ":") ||
			strings.HasSuffix(before, ", ") && (after == "" || after[0] == '\n' || after[0] == '\r') ||
			strings.HasSuffix(before, "Reason: ") || strings.HasSuffix(before, `"reason": "`) || strings.HasSuffix(before, `"reason":"`) {
			codes[word] = true
		}
		start = end
	}
	return codes
}

// english reports whether a code could be a word of a sentence: it has neither an
// underscore nor a capital after the first letter, or nothing but capitals.
func english(word string) bool {
	if strings.ContainsAny(word, "_.") {
		return false
	}
	return word == strings.ToUpper(word) || word[min(1, len(word)):] == strings.ToLower(word[min(1, len(word)):])
}

func inCode(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '.'
}

// judge says what an error of the SDK means.
func judge(err error) (provision.Verdict, bool) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, errClosed) {
		return provision.Verdict{}, false
	}
	if v, ok := judgeWords(wordsOf(err)); ok {
		return v, true
	}
	return judgeWords(err.Error())
}

// reasonOf is Google's code of an error, "" for one that is not Google's.
func reasonOf(err error) string {
	var op *operationError
	if errors.As(err, &op) {
		return op.code
	}
	var api *googleapi.Error
	if !errors.As(err, &api) {
		return ""
	}
	for _, detail := range api.Details { // of google.rpc.ErrorInfo
		if info, ok := detail.(map[string]any); ok {
			if reason, ok := info["reason"].(string); ok && strings.HasSuffix(fmt.Sprint(info["@type"]), "ErrorInfo") {
				return reason
			}
		}
	}
	if len(api.Errors) > 0 {
		return api.Errors[0].Reason
	}
	return ""
}

// wordsOf gives the cloud's own words, without what the SDK puts around them.
func wordsOf(err error) string {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		return err.Error()
	}
	var op *operationError
	if errors.As(err, &op) {
		return op.Error()
	}
	var api *googleapi.Error
	if errors.As(err, &api) {
		reason := reasonOf(err)
		if reason == "" {
			reason = fmt.Sprintf("error %d", api.Code)
		}
		return reason + ": " + strings.TrimSpace(api.Message)
	}
	var token *oauth2.RetrieveError
	if errors.As(err, &token) {
		return token.Error()
	}
	var sent *url.Error
	if errors.As(err, &sent) {
		return sent.Err.Error()
	}
	return err.Error()
}

// failure is an error for people. Its kind is what the cloud's words mean.
func (c *Cloud) failure(what string, err error) error {
	var known *cluster.Failure
	if errors.As(err, &known) {
		return fmt.Errorf("%s: %w", what, err)
	}
	f := &cluster.Failure{Kind: cluster.Provisioning, What: what, Words: wordsOf(err), Err: err}
	if v, ok := judge(err); ok {
		f.Kind, f.Next = v.Kind, v.Next
	}
	return f
}

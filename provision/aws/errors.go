package aws

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
)

// What people can do about failures of several codes.
const (
	nextQuota       = "ask for a higher limit under Service Quotas (EC2) in this region, or let the app use other types or regions"
	nextSignIn      = "sign in to AWS anew, for example with `aws sso login`, and try again"
	nextCredentials = "set up credentials (`aws configure`, AWS_PROFILE or AWS_ACCESS_KEY_ID) and see what `levin doctor` says of this cloud"
	nextPermission  = "`levin doctor` shows which permissions are missing; whoever manages the account can grant them"
	nextLeftOver    = "something of that name was left behind: `levin gc` lists and removes what Levin has made"
)

// meaning is one row of the table: what a code of the API means. Where a code
// stands for several things, Saying is a part of the message that tells them
// apart; the rows of one code are tried in order.
type meaning struct {
	Code   string
	Saying string
	provision.Verdict
}

// meanings are the codes of EC2, STS, SSM and the other services that creating
// and ending machines meets, as "Error codes for the Amazon EC2 API" and the
// common errors of the other services' references list them. An instance that is
// terminated while it starts gives a reason with "Server." or "Client." before the
// code; such a row counts before the one without.
func meanings() []meaning {
	row := func(code string, kind cluster.FailureKind, scope provision.Scope, next string) meaning {
		return meaning{Code: code, Verdict: provision.Verdict{Kind: kind, Scope: scope, Next: next}}
	}
	saying := func(text string, m meaning) meaning {
		m.Saying = text
		return m
	}
	const (
		zone    = provision.ScopeZone
		region  = provision.ScopeRegion
		account = provision.ScopeAccount
	)
	return []meaning{
		// No machine of the kind is to be had right now.
		row("InsufficientInstanceCapacity", cluster.Capacity, zone, ""),
		row("InsufficientCapacity", cluster.Capacity, zone, ""),
		row("InsufficientHostCapacity", cluster.Capacity, zone, ""),
		row("InsufficientCapacityOnHost", cluster.Capacity, zone, ""),
		row("InsufficientReservedInstanceCapacity", cluster.Capacity, zone, ""),
		row("InsufficientVolumeCapacity", cluster.Capacity, zone, ""),
		row("InsufficientAddressCapacity", cluster.Capacity, region, ""),
		row("InsufficientFreeAddressesInSubnet", cluster.Capacity, zone, "the subnet has no free addresses; name others under subnets in the settings"),
		row("ReservationCapacityExceeded", cluster.Capacity, zone, ""),
		row("CapacityReservationCapacityExceeded", cluster.Capacity, zone, ""),
		row("UnfulfillableCapacity", cluster.Capacity, zone, ""),
		row("Server.SpotInstanceTermination", cluster.Capacity, zone, ""),
		row("Server.SpotInstanceShutdown", cluster.Capacity, zone, ""),
		row("SpotInstanceTermination", cluster.Capacity, zone, ""),

		// The zone or the region does not have the type at all.
		saying("is not supported in your requested Availability Zone", row("Unsupported", cluster.Capacity, zone, "")),
		saying("not supported in this region", row("Unsupported", cluster.Capacity, region, "")),
		row("Unsupported", cluster.Capacity, region, ""),
		saying("spot", row("UnsupportedOperation", cluster.Capacity, region, "")),
		row("UnsupportedOperation", cluster.BadRequest, region, ""),
		saying("not supported in", row("InvalidAvailabilityZone", cluster.Capacity, zone, "")),
		row("InvalidAvailabilityZone", cluster.BadRequest, zone, ""),

		// Limits of the account.
		row("VcpuLimitExceeded", cluster.Quota, region, nextQuota),
		row("InstanceLimitExceeded", cluster.Quota, region, nextQuota),
		row("MaxSpotInstanceCountExceeded", cluster.Quota, region, nextQuota),
		row("MaxSpotFleetRequestCountExceeded", cluster.Quota, region, nextQuota),
		row("SpotInstanceRequestLimitExceeded", cluster.Quota, region, nextQuota),
		row("MaxScheduledInstanceCapacityExceeded", cluster.Quota, region, nextQuota),
		row("AddressLimitExceeded", cluster.Quota, region, nextQuota),
		row("PrivateIpAddressLimitExceeded", cluster.Quota, region, nextQuota),
		row("NetworkInterfaceLimitExceeded", cluster.Quota, region, nextQuota),
		row("VolumeLimitExceeded", cluster.Quota, region, nextQuota),
		row("MaxIOPSLimitExceeded", cluster.Quota, region, nextQuota),
		row("AttachmentLimitExceeded", cluster.Quota, region, nextQuota),
		row("SecurityGroupLimitExceeded", cluster.Quota, region, nextQuota),
		row("SecurityGroupsPerInstanceLimitExceeded", cluster.Quota, region, nextQuota),
		row("SecurityGroupsPerInterfaceLimitExceeded", cluster.Quota, region, nextQuota),
		row("RulesPerSecurityGroupLimitExceeded", cluster.Quota, region, "fewer ingress addresses or ports, or a higher limit under Service Quotas (VPC)"),
		row("PlacementGroupLimitExceeded", cluster.Quota, region, nextQuota),
		row("KeyPairLimitExceeded", cluster.Quota, region, nextQuota),
		row("ResourceLimitExceeded", cluster.Quota, region, nextQuota),
		row("ResourceCountExceeded", cluster.Quota, region, nextQuota),
		row("LimitExceeded", cluster.Quota, region, nextQuota),
		row("ServiceQuotaExceededException", cluster.Quota, region, nextQuota),
		row("TagLimitExceeded", cluster.BadRequest, account, "fewer tags"),
		row("PendingVerification", cluster.Quota, region, "AWS is still checking the account for this region; that takes minutes, seldom longer than four hours"),
		row("UserDataLimitExceeded", cluster.BadRequest, account, ""),

		row("SpotMaxPriceTooLow", cluster.Price, zone, ""),

		// Who asks.
		row("UnauthorizedOperation", cluster.Auth, account, nextPermission),
		row("Client.UnauthorizedOperation", cluster.Auth, account, nextPermission),
		row("AccessDenied", cluster.Auth, account, nextPermission),
		row("AccessDeniedException", cluster.Auth, account, nextPermission),
		row("NotAuthorized", cluster.Auth, account, nextPermission),
		row("AuthFailure.ServiceLinkedRoleCreationNotPermitted", cluster.Auth, account,
			"spot needs a service-linked role once: `aws iam create-service-linked-role --aws-service-name spot.amazonaws.com`"),
		row("AuthFailure", cluster.Auth, account, "the keys are wrong, or the region is not switched on for the account; `aws sts get-caller-identity` shows who asks"),
		row("InvalidClientTokenId", cluster.Auth, account, "the access key is not known to AWS, or the region is not switched on for the account; `aws sts get-caller-identity` shows who asks"),
		row("UnrecognizedClientException", cluster.Auth, account, nextCredentials),
		row("InvalidAccessKeyId", cluster.Auth, account, nextCredentials),
		row("SignatureDoesNotMatch", cluster.Auth, account, "the secret access key does not fit the access key, or the clock of this computer is wrong"),
		row("IncompleteSignature", cluster.Auth, account, nextCredentials),
		row("InvalidSignatureException", cluster.Auth, account, "the secret access key does not fit the access key, or the clock of this computer is wrong"),
		row("MissingAuthenticationToken", cluster.Auth, account, nextCredentials),
		row("MissingAuthenticationTokenException", cluster.Auth, account, nextCredentials),
		row("InvalidSecurity", cluster.Auth, account, nextCredentials),
		row("ExpiredToken", cluster.Auth, account, nextSignIn),
		row("ExpiredTokenException", cluster.Auth, account, nextSignIn),
		row("InvalidToken", cluster.Auth, account, nextSignIn),
		row("InvalidIdentityToken", cluster.Auth, account, nextSignIn),
		row("UnauthorizedException", cluster.Auth, account, nextSignIn),
		row("RequestExpired", cluster.Auth, account, "set the clock of this computer, and sign in anew"),
		row("RequestInTheFuture", cluster.Auth, account, "set the clock of this computer"),
		row("OptInRequired", cluster.Auth, region, "switch the region or the product on for the account, in AWS's console"),
		row("Blocked", cluster.Auth, account, "AWS has blocked the account; its support says why"),
		row("InvalidHostConfiguration", cluster.BadRequest, account, ""),
		row("RegionDisabledException", cluster.Auth, region, "switch STS on for the region, in AWS's console"),
		row("Client.InternalError", cluster.Auth, region, "EC2 could not start the machine for its disk: most often the key (KMS) that encrypts it is not allowed to whoever asks"),
		row("Client.InvalidKMSKey.InvalidState", cluster.Auth, region, "the key (KMS) that disks are encrypted with is switched off"),
		row("InvalidKMSKey.InvalidState", cluster.Auth, region, "the key (KMS) that disks are encrypted with is switched off"),

		// Too often, or not now.
		row("RequestLimitExceeded", cluster.Throttled, region, ""),
		row("Throttling", cluster.Throttled, region, ""),
		row("ThrottlingException", cluster.Throttled, region, ""),
		row("ThrottledException", cluster.Throttled, region, ""),
		row("RequestThrottled", cluster.Throttled, region, ""),
		row("RequestThrottledException", cluster.Throttled, region, ""),
		row("EC2ThrottledException", cluster.Throttled, region, ""),
		row("TooManyRequestsException", cluster.Throttled, region, ""),
		row("SlowDown", cluster.Throttled, region, ""),
		row("BandwidthLimitExceeded", cluster.Throttled, region, ""),
		row("PriorRequestNotComplete", cluster.Throttled, region, ""),
		row("ConcurrentTagAccess", cluster.Throttled, region, ""),
		row("InternalError", cluster.Transient, region, ""),
		row("InternalFailure", cluster.Transient, region, ""),
		row("InternalServerError", cluster.Transient, region, ""),
		row("InternalServiceException", cluster.Transient, region, ""),
		row("ServiceException", cluster.Transient, region, ""),
		row("Unavailable", cluster.Transient, region, ""),
		row("ServiceUnavailable", cluster.Transient, region, ""),
		row("ServiceUnavailableException", cluster.Transient, region, ""),
		row("RequestTimeout", cluster.Transient, region, ""),
		row("RequestTimeoutException", cluster.Transient, region, ""),
		row("RequestCanceled", cluster.Transient, region, ""),
		row("RequestError", cluster.Transient, region, ""),
		row("IDPCommunicationError", cluster.Transient, region, ""),
		row("DependencyViolation", cluster.Transient, region, ""),
		row("IncorrectInstanceState", cluster.Transient, zone, ""),
		row("IncorrectState", cluster.Transient, region, ""),
		row("IncorrectSpotRequestState", cluster.Transient, zone, ""),
		row("InvalidInstanceID.NotFound", cluster.Transient, region, ""), // not visible yet
		row("InvalidInstanceID.NotLinkable", cluster.Transient, region, ""),
		row("Client.InstanceInitiatedShutdown", cluster.Transient, zone, ""),
		row("Client.UserInitiatedShutdown", cluster.Transient, zone, "somebody ended the machine by hand"),
		row("Server.InternalError", cluster.Transient, zone, ""),

		// What was asked.
		row("InvalidParameterValue", cluster.BadRequest, account, ""),
		row("InvalidParameterCombination", cluster.BadRequest, account, ""),
		row("InvalidParameter", cluster.BadRequest, account, ""),
		row("InvalidParameterException", cluster.BadRequest, account, ""),
		row("InvalidInput", cluster.BadRequest, account, ""),
		row("InvalidRequest", cluster.BadRequest, account, ""),
		row("ValidationError", cluster.BadRequest, account, ""),
		row("ValidationException", cluster.BadRequest, account, ""),
		row("MissingParameter", cluster.BadRequest, account, ""),
		row("UnknownParameter", cluster.BadRequest, account, ""),
		row("MalformedQueryString", cluster.BadRequest, account, ""),
		row("InvalidAction", cluster.BadRequest, account, ""),
		row("InvalidFilter", cluster.BadRequest, account, ""),
		row("InvalidAMIID.Malformed", cluster.BadRequest, account, "see the image in the settings"),
		row("InvalidAMIID.NotFound", cluster.BadRequest, region, "an image is of one region: see the image in the settings, or name regions"),
		row("InvalidAMIID.Unavailable", cluster.BadRequest, region, "see the image in the settings"),
		row("InvalidInstanceType", cluster.BadRequest, account, ""),
		row("InvalidInstanceID.Malformed", cluster.BadRequest, account, ""),
		row("InvalidSubnetID.NotFound", cluster.BadRequest, region, "see subnets in the settings"),
		row("InvalidSubnetId.NotFound", cluster.BadRequest, region, "see subnets in the settings"),
		row("InvalidSubnet", cluster.BadRequest, region, "see subnets in the settings"),
		row("InvalidVpcID.NotFound", cluster.BadRequest, region, "see network in the settings"),
		row("InvalidVpcId.NotFound", cluster.BadRequest, region, "see network in the settings"),
		row("VPCIdNotSpecified", cluster.BadRequest, region, "the region has no default VPC: `aws ec2 create-default-vpc` makes one, or name a network in the settings"),
		row("DefaultVpcDoesNotExist", cluster.BadRequest, region, "`aws ec2 create-default-vpc` makes one, or name a network in the settings"),
		row("MissingInput", cluster.BadRequest, region, ""),
		row("InvalidGroup.NotFound", cluster.BadRequest, region, ""),
		row("InvalidGroup.Duplicate", cluster.BadRequest, region, nextLeftOver),
		row("InvalidGroup.InUse", cluster.Transient, region, ""),
		row("InvalidPermission.Duplicate", cluster.BadRequest, region, ""),
		row("InvalidPermission.Malformed", cluster.BadRequest, account, ""),
		row("InvalidKeyPair.Duplicate", cluster.BadRequest, region, nextLeftOver),
		row("InvalidKeyPair.NotFound", cluster.BadRequest, region, ""),
		row("InvalidKey.Format", cluster.BadRequest, account, ""),
		row("InvalidPlacementGroup.Duplicate", cluster.BadRequest, region, nextLeftOver),
		row("InvalidPlacementGroup.Unknown", cluster.BadRequest, region, ""),
		row("InvalidBlockDeviceMapping", cluster.BadRequest, account, "see disk and disk_type"),
		row("InvalidDiskSize", cluster.BadRequest, account, "see disk"),
		row("InvalidVolume.ZoneMismatch", cluster.BadRequest, zone, ""),
		row("InvalidIamInstanceProfileArn.Malformed", cluster.BadRequest, account, "see role in the settings"),
		row("InvalidUserData.Malformed", cluster.BadRequest, account, ""),
		row("InvalidZone.NotFound", cluster.BadRequest, zone, ""),
		row("InvalidTagKey.Malformed", cluster.BadRequest, account, ""),
		row("IdempotentParameterMismatch", cluster.BadRequest, account, ""),
		row("OperationNotPermitted", cluster.BadRequest, zone, "the machine may be protected against its termination; take that off by hand"),
		row("ParameterNotFound", cluster.BadRequest, region, "AWS publishes no image of this kind in the region; name an image in the settings"),
		row("NoSuchResourceException", cluster.BadRequest, region, ""),
	}
}

// phrase is what is said without a code: by the SDKs and by Terraform's provider
// before AWS has been asked, and by the network.
type phrase struct {
	Text string // lower case
	provision.Verdict
}

func phrases() []phrase {
	say := func(text string, kind cluster.FailureKind, scope provision.Scope, next string) phrase {
		return phrase{text, provision.Verdict{Kind: kind, Scope: scope, Next: next}}
	}
	const region, account = provision.ScopeRegion, provision.ScopeAccount
	return []phrase{
		say("no valid credential sources", cluster.Auth, account, nextCredentials),
		say("static credentials are empty", cluster.Auth, account, nextCredentials),
		say("no ec2 imds role found", cluster.Auth, account, nextCredentials),
		say("failed to refresh cached credentials", cluster.Auth, account, nextCredentials),
		say("failed to retrieve credentials", cluster.Auth, account, nextCredentials),
		say("the sso session has expired", cluster.Auth, account, nextSignIn),
		say("token has expired and refresh failed", cluster.Auth, account, nextSignIn),
		say("refresh cached sso token failed", cluster.Auth, account, nextSignIn),
		say("failed to get shared config profile", cluster.Auth, account, "see profile in the settings and AWS_PROFILE"),
		say("the security token included in the request is expired", cluster.Auth, account, nextSignIn),
		say("the security token included in the request is invalid", cluster.Auth, account, nextCredentials),
		say("no public image of aws has drivers", cluster.BadRequest, account, "name an image in the settings"),
		say("insufficient capacity", cluster.Capacity, provision.ScopeZone, ""),
		say("no such host", cluster.Transient, region, "see whether this computer reaches the internet, and whether the region exists"),
		say("connection refused", cluster.Transient, region, ""),
		say("connection reset by peer", cluster.Transient, region, ""),
		say("tls handshake timeout", cluster.Transient, region, ""),
		say("i/o timeout", cluster.Transient, region, ""),
		say("context deadline exceeded (client.timeout", cluster.Transient, region, ""),
		say("unexpected eof", cluster.Transient, region, ""),
	}
}

// Judge says what a message of Terraform or of the SDK means: by the first code
// in it that the table has, else by a phrase.
func (c *Cloud) Judge(words string) (provision.Verdict, bool) { return judgeWords(words) }

func judgeWords(words string) (provision.Verdict, bool) {
	table := map[string][]meaning{}
	for _, m := range meanings() {
		table[m.Code] = append(table[m.Code], m)
	}
	for code := range codes(words) {
		bare := strings.TrimPrefix(strings.TrimPrefix(code, "Server."), "Client.")
		for _, m := range append(table[code], table[bare]...) {
			if strings.Contains(strings.ToLower(words), strings.ToLower(m.Saying)) {
				return m.Verdict, true
			}
		}
	}
	lower := strings.ToLower(words)
	for _, p := range phrases() {
		if strings.Contains(lower, p.Text) {
			return p.Verdict, true
		}
	}
	return provision.Verdict{}, false
}

// codes gives the words of a text that stand where the APIs, the SDKs and the
// provider put a code, in order: before a colon ("creating EC2 Instance:
// InsufficientInstanceCapacity: We …"), in brackets ("An error occurred
// (RequestLimitExceeded) when …"), in quotes ("last error: 'Server.InternalError'"),
// in XML, or as the whole text. Codes are also English words, so that anything
// that merely contains one has none: "Unsupported argument" is not Unsupported.
func codes(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for start := 0; start < len(text); {
			if !inCode(text[start]) {
				start++
				continue
			}
			end := start
			for end < len(text) && inCode(text[end]) {
				end++
			}
			word := text[start:end]
			before, after := byte(0), byte(0)
			if start > 0 {
				before = text[start-1]
			}
			if end < len(text) {
				after = text[end]
			}
			whole := before == 0 && after == 0
			if whole || after == ':' || before == '(' && after == ')' || before == '"' && after == '"' ||
				before == '\'' && after == '\'' || before == '>' && after == '<' {
				if !yield(strings.Trim(word, ".")) {
					return
				}
			}
			start = end
		}
	}
}

func inCode(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '.'
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

// code is the API's code of an error, "" for one that is not the API's.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// wordsOf gives the cloud's own words, without what the SDK puts around them.
func wordsOf(err error) string {
	var several interface{ Unwrap() []error }
	var where inRegion
	if errors.As(err, &where) || errors.As(err, &several) {
		return err.Error()
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode() + ": " + api.ErrorMessage()
	}
	return err.Error()
}

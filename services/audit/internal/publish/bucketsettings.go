package publish

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// BucketSettings say which bucket tree heads are published in, and on whose account. All variables but the first have the names that programs
// for S3 agree on; they are not looked at when there is no bucket.
type BucketSettings struct {
	// URL is s3://bucket/prefix; empty for none. It is taken as it is written, without any escapes.
	URL             string `name:"audit-heads-bucket"    env:"GALLEY_AUDIT_HEADS_BUCKET" help:"Bucket of an S3 store that the audit log's signed tree heads are written to, best one with object lock in another account." placeholder:"s3://BUCKET/PREFIX"`
	AccessKeyID     string `name:"aws-access-key-id"     env:"AWS_ACCESS_KEY_ID"         help:"Key that writes to that bucket."                                placeholder:"ID"`
	SecretAccessKey string `name:"aws-secret-access-key" env:"AWS_SECRET_ACCESS_KEY"     help:"Its secret; better as a variable than on the command line."     placeholder:"SECRET"`
	SessionToken    string `name:"aws-session-token"     env:"AWS_SESSION_TOKEN"         help:"Its token, when it is one that expires."                        placeholder:"TOKEN"`
	Region          string `name:"aws-region"            env:"AWS_REGION"                help:"Region of that bucket."                                         placeholder:"REGION"`
	// Endpoint is where the store answers when that is not Amazon's; EndpointS3 goes before it.
	Endpoint   string `name:"aws-endpoint-url"    env:"AWS_ENDPOINT_URL"    help:"Where the S3 store answers, when it is not Amazon's." placeholder:"URL"`
	EndpointS3 string `name:"aws-endpoint-url-s3" env:"AWS_ENDPOINT_URL_S3" help:"The same, and goes before it."                        placeholder:"URL"`
}

const (
	bucketVariable = "GALLEY_AUDIT_HEADS_BUCKET"
	// maxPrefix leaves the longest key that S3 takes, 1,024 bytes, room for the log's name and the rest.
	maxPrefix = 512
	// Stores that are not Amazon's have regions in name only, if they do not say otherwise.
	defaultRegion  = "us-east-1"
	amazonEndpoint = "s3.amazonaws.com"
)

// Validate joins everything that is wrong. It repeats no secret.
func (s BucketSettings) Validate() error {
	if s.URL == "" {
		return nil
	}
	_, _, err := s.bucket()
	problems := []error{err}
	_, _, err = s.endpoint()
	problems = append(problems, err)
	if s.AccessKeyID == "" || s.SecretAccessKey == "" {
		problems = append(problems, fmt.Errorf("%s needs a key that may write there, in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", bucketVariable))
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": s.AccessKeyID, "AWS_SECRET_ACCESS_KEY": s.SecretAccessKey, "AWS_SESSION_TOKEN": s.SessionToken,
	} {
		if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > unicode.MaxASCII }) {
			problems = append(problems, fmt.Errorf("%s has a space, a line break or another character that is in no key", name))
		}
	}
	return errors.Join(problems...)
}

// bucket gives the bucket's name, and the prefix without slashes around it.
func (s BucketSettings) bucket() (name, prefix string, err error) {
	place, found := strings.CutPrefix(s.URL, "s3://")
	name, prefix, _ = strings.Cut(place, "/")
	prefix = strings.TrimSuffix(prefix, "/")
	if !found || name == "" {
		return "", "", fmt.Errorf("%s is %.200q: must be s3://bucket or s3://bucket/prefix", bucketVariable, s.URL)
	}
	if err := s3utils.CheckValidBucketNameStrict(name); err != nil {
		return "", "", fmt.Errorf("%s: %.100q is not the name of a bucket: must be 3 to 63 lower-case letters, digits, dots and hyphens", bucketVariable, name)
	}
	if len(prefix) > maxPrefix || !utf8.ValidString(prefix) || strings.ContainsFunc(prefix, unicode.IsControl) {
		return "", "", fmt.Errorf("%s: the prefix must be at most %d bytes of UTF-8 without control characters", bucketVariable, maxPrefix)
	}
	for part := range strings.SplitSeq(prefix, "/") {
		if prefix != "" && part == "" || part == "." || part == ".." {
			return "", "", fmt.Errorf("%s: the prefix %.200q has a part that is empty, . or .., which stores and tools read in different ways",
				bucketVariable, prefix)
		}
	}
	return name, prefix, nil
}

// endpoint gives the host that answers, and the region that requests are signed for.
func (s BucketSettings) endpoint() (at url.URL, region string, err error) {
	variable, text := "AWS_ENDPOINT_URL_S3", s.EndpointS3
	if text == "" {
		variable, text = "AWS_ENDPOINT_URL", s.Endpoint
	}
	region = s.Region
	switch {
	case region == "" && text == "":
		return at, "", fmt.Errorf("%s needs AWS_REGION, the region of the bucket, or AWS_ENDPOINT_URL for a store that is not Amazon's", bucketVariable)
	case region == "":
		region = defaultRegion
	case !regexp.MustCompile(`^[a-z0-9-]{1,40}$`).MatchString(region):
		return at, "", fmt.Errorf("AWS_REGION is %.100q: must be the name of a region, such as %s", region, defaultRegion)
	}
	if text == "" {
		return url.URL{Scheme: "https", Host: amazonEndpoint}, region, nil
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" || parsed.User != nil ||
		strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" || parsed.Fragment != "" {
		// The value may hold a password: it is not repeated.
		return at, "", fmt.Errorf("%s must be http:// or https://, a host, and a port if need be, with nothing after it", variable)
	}
	return url.URL{Scheme: parsed.Scheme, Host: parsed.Host}, region, nil
}

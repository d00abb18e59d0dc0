// Package traceparent hands the W3C trace context of a request on to what is done because of it: in a context within the process, in the
// header of the same name between processes.
package traceparent

import (
	"context"
	"strings"
)

type key struct{}

// With gives a context in which From finds parent.
func With(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return context.WithValue(ctx, key{}, parent)
}

// From is the traceparent in which something is done, "" for none.
func From(ctx context.Context) string {
	parent, _ := ctx.Value(key{}).(string)
	return parent
}

// Valid checks a W3C traceparent of version 00.
func Valid(s string) bool {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	const none = "0000000000000000"
	return isHex(s[3:35]) && isHex(s[36:52]) && isHex(s[53:]) && s[3:35] != none+none && s[36:52] != none
}

func isHex(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }) < 0
}

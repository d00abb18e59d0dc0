package actionhttp

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNextLink(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		``:                                     "",
		`<https://a.example/?p=2>; rel="next"`: "https://a.example/?p=2",
		`<a>;rel=next`:                         "a",
		`<a>; REL=Next`:                        "a",
		`< a >  ;  rel = "prev next"`:          "a",
		`<a>; rel="prev", <b>; rel="next", <c>; rel="next"`:          "b",
		`, ,<a>; rel="nextish", <b>; title="rel=\"next\""; rel=last`: "",
		`<a>; rel="first"; rel="next"`:                               "", // the first one counts
		`<a,b;c>; title=";,\"<x>; rel=next"; rel="next"`:             "a,b;c",
		`<a>; flag; rel="next"`:                                      "a",
		`<a>`:                                                        "",
		`a; rel="next"`:                                              "",
		`<a; rel="next"`:                                             "",
		`<a>; rel="next`:                                             "a",
		`<a>; rel="next\`:                                            "a",
		`<a> x <b>; rel="next"`:                                      "",
		`<>; rel=next`:                                               "",
		strings.Repeat(`<a>;rel=x,`, 1000) + `<b>;rel=next`:          "b",
	} {
		assert.Equal(t, want, nextLink([]string{header}), header)
	}
	assert.Equal(t, "b", nextLink([]string{"broken", `<b>; rel=next`}))
}

func FuzzNextLink(f *testing.F) {
	for _, seed := range []string{`<a>; rel="next"`, `<a>; rel="x\"", <b>;rel=next`, `<`, `<>;`, `<a>;=;==",`, ",,;"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if link := nextLink([]string{header}); !strings.Contains(header, link) {
			t.Fatalf("%q is not in %q", link, header)
		}
	})
}

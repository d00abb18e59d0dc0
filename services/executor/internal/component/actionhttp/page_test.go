package actionhttp_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/problem"
)

// numbers is an API with the numbers 1 to 7, three on a page, which can be followed in every way.
func numbers(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer hush" || r.URL.Query().Get("q") != "x" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	page := 1
	_, _ = fmt.Sscan(r.URL.Query().Get("page"), &page)
	var items []int
	for n := 3*page - 2; n <= min(3*page, 7); n++ {
		items = append(items, n)
	}
	answer := map[string]any{"data": map[string]any{"list": items}, "next": nil, "cursor": ""}
	if items == nil {
		answer["data"] = map[string]any{"list": []int{}}
	}
	if page < 3 {
		answer["next"] = fmt.Sprintf("%s?q=x&page=%d#part", r.URL.Path, page+1)
		answer["cursor"] = page + 1
		w.Header().Add("Link", `<https://elsewhere.example/>; rel="first"; title="a, \"b\"; c"`)
		w.Header().Add("Link", fmt.Sprintf(`</>; rel=prev , <?q=x&page=%d>; title=x; rel="last NEXT"`, page+1))
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("X-Page", strconv.Itoa(page))
	_ = json.NewEncoder(w).Encode(answer)
}

func TestPaginate(t *testing.T) {
	t.Parallel()
	base, c := serve(t, numbers)
	for name, test := range map[string]struct {
		next     with
		query    with
		limit    any
		pages    float64
		from, to int
		complete bool
	}{
		"link":                   {next: with{"link": true}, pages: 3, from: 1, to: 7, complete: true},
		"url":                    {next: with{"url": "next"}, pages: 3, from: 1, to: 7, complete: true},
		"cursor":                 {next: with{"cursor": "cursor", "param": "page"}, pages: 3, from: 1, to: 7, complete: true},
		"page":                   {next: with{"page": "page"}, pages: 4, from: 1, to: 7, complete: true},
		"page from the query":    {next: with{"page": "page"}, query: with{"q": "x", "page": 2.0}, pages: 3, from: 4, to: 7, complete: true},
		"limited":                {next: with{"link": true}, limit: 2.0, pages: 2, from: 1, to: 6},
		"limited at the end":     {next: with{"link": true}, limit: 3.0, pages: 3, from: 1, to: 7, complete: true},
		"limit of one":           {next: with{"page": "page"}, limit: 1.0, pages: 1, from: 1, to: 3},
		"a field that is absent": {next: with{"url": "data.nothing.at_all"}, pages: 1, from: 1, to: 3, complete: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.query == nil {
				test.query = with{"q": "x"}
			}
			output, err := execute(t, c, with{
				"url": base + "/numbers", "query": test.query, "auth": with{"bearer": "hush"},
				"paginate": with{"items": "data.list", "next": test.next, "max_pages": test.limit},
			})
			require.NoError(t, err)
			want := []any{}
			for n := test.from; n <= test.to; n++ {
				want = append(want, float64(n))
			}
			assert.Equal(t, want, output["body"])
			assert.Equal(t, test.pages, output["pages"])
			assert.Equal(t, test.complete, output["complete"])
			assert.Equal(t, 200.0, output["status"])
			headers, _ := output["headers"].(map[string]any)
			assert.NotEmpty(t, headers["x-page"])
		})
	}
}

func TestPaginationThatFails(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1000)
	base, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String()
		switch r.URL.Path {
		case "/html":
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html>hush</html>"))
		case "/later":
			if r.URL.RawQuery != "" {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			_, _ = w.Write([]byte(`{"list": [], "next": "?x=1"}`))
		case "/large":
			_, _ = fmt.Fprintf(w, `{"list": ["%s"], "next": "?n=%d"}`, strings.Repeat("x", 300<<10), len(asked))
		case "/away":
			redirect(w, strings.Replace("http://"+r.Host, "127.0.0.1", "localhost", 1)+"/there")
		case "/there":
			_, _ = w.Write([]byte(`{"list": [], "next": "/more"}`))
		case "/loop":
			_, _ = w.Write([]byte(`{"list": [], "next": "#top"}`))
		default:
			_, _ = w.Write([]byte(`{"list": [], "next": ` + r.URL.Query().Get("next") + `}`)) //nolint:gosec // no browser reads it
		}
	})
	follow := with{"items": "list", "next": with{"url": "next"}}
	for name, test := range map[string]struct {
		path      string
		input     with
		paginate  any
		code      problem.Code
		retryable bool
	}{
		"no object":             {paginate: "x", code: problem.ComponentError},
		"no way on":             {paginate: with{"next": with{}}, code: problem.ComponentError},
		"link is not true":      {paginate: with{"next": with{"link": "yes"}}, code: problem.ComponentError},
		"POST":                  {input: with{"method": "POST"}, paginate: follow, code: problem.ComponentError},
		"as text":               {input: with{"response": "text"}, paginate: follow, code: problem.ComponentError},
		"as files":              {input: with{"response": "file"}, paginate: follow, code: problem.ComponentError},
		"no JSON":               {path: "/html", paginate: follow, code: problem.ComponentError},
		"no list":               {path: "/?next=1", paginate: with{"items": "next", "next": with{"link": true}}, code: problem.ComponentError},
		"the body is no list":   {path: "/?next=1", paginate: with{"next": with{"link": true}}, code: problem.ComponentError},
		"next is a number":      {path: "/?next=1", paginate: follow, code: problem.ComponentError},
		"the cursor is a list":  {path: "/?next=[1]", paginate: with{"items": "list", "next": with{"cursor": "next", "param": "c"}}, code: problem.ComponentError},
		"next is no address":    {path: `/?next="http:%2f%2f[hush"`, paginate: follow, code: problem.ComponentError},
		"the same again":        {path: "/loop", paginate: follow, code: problem.ComponentError},
		"another host":          {path: `/?next="http:%2f%2fexample.com"`, paginate: follow, code: problem.AddressRefused},
		"another port":          {path: `/?next="http:%2f%2f127.0.0.1:1"`, paginate: follow, code: problem.AddressRefused},
		"another scheme":        {path: `/?next="file:%2f%2f%2fetc%2fpasswd"`, paginate: follow, code: problem.AddressRefused},
		"a user":                {path: `/?next="http:%2f%2fhush@127.0.0.1"`, paginate: follow, code: problem.AddressRefused},
		"after a redirect":      {path: "/away", paginate: follow, code: problem.AddressRefused},
		"too much":              {path: "/large", paginate: follow, code: problem.StateTooLarge},
		"refused in the middle": {path: "/later", paginate: follow, code: problem.RateLimited, retryable: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			input := with{"url": base + test.path, "paginate": test.paginate}
			maps.Copy(input, test.input)
			_, err := execute(t, c, input)
			requireProblem(t, err, test.code, test.retryable)
		})
	}
}

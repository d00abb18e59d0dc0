package actionhttp

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const (
	defaultPages = 10
	maxPages     = 100
)

// pagination is how a list goes on from page to page.
type pagination struct {
	// items is where the list is in each page.
	items []string
	max   int
	// first is where the first page is.
	first *url.URL
	// next gives where the page after this one is, nil behind the last.
	next func(page *page) (*url.URL, error)
}

// page is the answer with one part of a list.
type page struct {
	number int
	target *url.URL
	// base is where the answer came from, after redirects.
	base   *url.URL
	status int
	header http.Header
	body   any
	size   int64
	items  []any
}

// list gives the items of all pages. An attempt that fails begins again at the first page.
func (c *Component) list(ctx context.Context, call *component.Call, with map[string]any, first *url.URL) (component.Result, error) {
	p, err := newPagination(with, first)
	if err != nil {
		return component.Result{}, err
	}
	items := []any{}
	left := int64(MaxBody)
	target := p.first
	for number := 1; ; number++ {
		current := &page{number: number, target: target}
		if err := c.fetch(ctx, call, with, current, left); err != nil {
			return component.Result{}, err
		}
		var found bool
		if current.items, found = find(current.body, p.items).([]any); !found {
			return component.Result{}, component.Failure(problem.ComponentError, "page %d has no list where paginate.items says", number)
		}
		items = append(items, current.items...)
		left -= current.size
		next, err := p.next(current)
		if err != nil {
			return component.Result{}, err
		}
		if next == nil || number == p.max {
			return component.Result{Output: map[string]any{
				"status": float64(current.status), "headers": decodeHeader(current.header), "body": items,
				"pages": float64(number), "complete": next == nil,
			}}, nil
		}
		if next.String() == target.String() {
			return component.Result{}, component.Failure(problem.ComponentError, "page %d says that it is followed by itself", number)
		}
		target = next
	}
}

// fetch fills in a page.
func (c *Component) fetch(ctx context.Context, call *component.Call, with map[string]any, page *page, limit int64) error {
	request, err := c.newRequest(ctx, call, with, page.target)
	if err != nil {
		return err
	}
	response, err := c.send(call, request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := outbound.ReadBody(response, limit)
	if failed, ok := errors.AsType[*problem.Error](err); ok && failed.Code == problem.StateTooLarge {
		return component.Failure(problem.StateTooLarge, "the pages together are larger than 1 MiB: lower max_pages or ask for less")
	}
	if err != nil {
		return err
	}
	page.base, page.status, page.header, page.size = response.Request.URL, response.StatusCode, response.Header, int64(len(body))
	page.body, err = decodeJSON(response.Header.Get(headerContentType), body)
	return err
}

func newPagination(with map[string]any, first *url.URL) (*pagination, error) {
	settings, _ := with["paginate"].(map[string]any)
	next, _ := settings["next"].(map[string]any)
	p := &pagination{items: dotted(settings["items"]), max: defaultPages, first: first}
	if limit, given := settings["max_pages"].(float64); given {
		p.max = int(min(max(limit, 1), maxPages))
	}
	if name, _ := with["method"].(string); name != "" && name != http.MethodGet {
		return nil, component.Failure(problem.ComponentError, "paginate works with the method GET only")
	}
	if form, _ := with["response"].(string); form == string(formText) || form == string(formFile) {
		return nil, component.Failure(problem.ComponentError, "paginate works with JSON only")
	}
	address, byURL := next["url"].(string)
	cursor, byCursor := next["cursor"].(string)
	name, byNumber := next["page"].(string)
	switch {
	case next["link"] == true:
		p.next = func(page *page) (*url.URL, error) { return page.follow(nextLink(page.header.Values("Link")), first) }
	case byURL:
		p.next = func(page *page) (*url.URL, error) { return page.followField(dotted(address), first) }
	case byCursor:
		parameter, _ := next["param"].(string)
		p.next = func(page *page) (*url.URL, error) { return page.continueFrom(dotted(cursor), parameter, first) }
	case byNumber:
		p.first, p.next = numbered(first, name)
	default:
		return nil, component.Failure(problem.ComponentError, "paginate.next has none of link, url, cursor and page")
	}
	return p, nil
}

// numbered counts pages on from the number that the URL has already, or from 1, up to one without items.
func numbered(first *url.URL, name string) (*url.URL, func(page *page) (*url.URL, error)) {
	from, err := strconv.ParseInt(first.Query().Get(name), 10, 32)
	if err != nil {
		from = 1
	}
	at := func(n int) *url.URL { return withParameter(first, name, strconv.FormatInt(from+int64(n-1), 10)) }
	return at(1), func(page *page) (*url.URL, error) {
		if len(page.items) == 0 {
			return nil, nil //nolint:nilnil // no next page
		}
		return at(page.number + 1), nil
	}
}

// followField goes where a field of the body leads.
func (p *page) followField(path []string, first *url.URL) (*url.URL, error) {
	switch value := find(p.body, path).(type) {
	case nil:
		return nil, nil //nolint:nilnil // no next page
	case string:
		return p.follow(value, first)
	}
	return nil, component.Failure(problem.ComponentError, "page %d has something other than an address where paginate.next says", p.number)
}

// follow goes where the page says, at the origin of the first page only: the author's headers, which may hold credentials, go along.
func (p *page) follow(address string, first *url.URL) (*url.URL, error) {
	if address == "" {
		return nil, nil //nolint:nilnil // no next page
	}
	next, err := p.base.Parse(address)
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "page %d names a next page that is not an address", p.number)
	}
	if next.User != nil || origin(next) != origin(first) {
		return nil, component.Failure(problem.AddressRefused, "page %d names a next page that is not at the host of url", p.number)
	}
	next.Fragment, next.RawFragment = "", ""
	return next, nil
}

// continueFrom asks for the first page's URL with the cursor that the page gives.
func (p *page) continueFrom(path []string, parameter string, first *url.URL) (*url.URL, error) {
	value := find(p.body, path)
	if value == nil || value == "" || value == false {
		return nil, nil //nolint:nilnil // no next page
	}
	cursor, ok := scalar(value)
	if !ok {
		return nil, component.Failure(problem.ComponentError, "page %d has something other than a cursor where paginate.next says", p.number)
	}
	return withParameter(first, parameter, cursor), nil
}

func withParameter(target *url.URL, name, value string) *url.URL {
	changed := *target
	query := changed.Query()
	query.Set(name, value)
	changed.RawQuery = query.Encode()
	return &changed
}

// origin writes equal origins equally.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// dotted is the path of a field; none for the value itself.
func dotted(value any) []string {
	text, _ := value.(string)
	if text == "" {
		return nil
	}
	return strings.Split(text, ".")
}

// find is nil where there is no such field.
func find(value any, path []string) any {
	for _, name := range path {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

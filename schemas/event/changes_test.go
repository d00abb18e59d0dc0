package event_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/galley-engine/galley/schemas/event"
)

func ExampleChanges() {
	type account struct {
		Limit  int    `json:"limit"`
		Name   string `json:"name"`
		APIKey string `json:"api_key"`
	}
	changes, _ := event.Changes(account{5, "a", "hunter2"}, account{7, "a", "hunter3"})
	fmt.Println(string(changes))
	// Output: {"before":{"api_key":"[redacted]","limit":5},"after":{"api_key":"[redacted]","limit":7}}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	key := "gk_" + strings.Repeat("aB3_", 11)
	tests := map[string]struct {
		before, after string
		secret        []string
		want          string
	}{
		"made":                   {"null", `{"a":1}`, nil, `{"after":{"a":1}}`},
		"gone":                   {`{"a":1}`, "null", nil, `{"before":{"a":1}}`},
		"nothing":                {"null", "null", nil, ""},
		"the same":               {`{"a":1,"b":{"c":[1]}}`, `{"b":{"c":[1]},"a":1}`, nil, ""},
		"made of nothing":        {"null", "{}", nil, `{"after":{}}`},
		"a member more":          {`{"a":1}`, `{"a":1,"b":2}`, nil, `{"before":{},"after":{"b":2}}`},
		"a member less":          {`{"a":1,"b":2}`, `{"a":1}`, nil, `{"before":{"b":2},"after":{}}`},
		"a member within":        {`{"a":{"b":1,"c":2}}`, `{"a":{"b":1,"c":3}}`, nil, `{"before":{"a":{"c":2}},"after":{"a":{"c":3}}}`},
		"a list is one thing":    {`{"a":[1,2]}`, `{"a":[1,3]}`, nil, `{"before":{"a":[1,2]},"after":{"a":[1,3]}}`},
		"another type":           {`{"a":{"b":1}}`, `{"a":null}`, nil, `{"before":{"a":{"b":1}},"after":{"a":null}}`},
		"numbers are exact":      {"null", `{"a":0.000001,"b":12345678901234567890}`, nil, `{"after":{"a":0.000001,"b":12345678901234567890}}`},
		"a secret that differs":  {`{"password":"a"}`, `{"password":"b"}`, nil, `{"before":{"password":"[redacted]"},"after":{"password":"[redacted]"}}`},
		"a secret that does not": {`{"password":"a"}`, `{"password":"a"}`, nil, ""},
		"names of all kinds": {
			"null", `{"clientSecret":1,"X-Api-Key":"x","APIKEY":"x","accessToken":"x","PASSPHRASE":"x","Authorization":"x","dbPassword":true,"credentials":["x",{"y":"z"}]}`,
			nil, `{"after":{"clientSecret":"[redacted]","X-Api-Key":"[redacted]","APIKEY":"[redacted]","accessToken":"[redacted]",
			"PASSPHRASE":"[redacted]","Authorization":"[redacted]","dbPassword":"[redacted]","credentials":["[redacted]",{"y":"[redacted]"}]}}`,
		},
		"what only sounds like one": {
			"null", `{"key_id":"k","secret_name":"n","input_tokens":7,"monkey":"m","keyboard":"b","compass":"n","secret":null,"fingerprint":"f"}`,
			nil, `{"after":{"key_id":"k","secret_name":"n","input_tokens":7,"monkey":"m","keyboard":"b","compass":"n","secret":null,"fingerprint":"f"}}`,
		},
		"tokens that are no number": {"null", `{"tokens":"x"}`, nil, `{"after":{"tokens":"[redacted]"}}`},
		"marked": {
			`{"vars":{"a":"x","b":"y"}}`, `{"vars":{"a":"x","b":"z","c":{"d":[1]}}}`,
			[]string{"vars"},
			`{"before":{"vars":{"b":"[redacted]"}},"after":{"vars":{"b":"[redacted]","c":{"d":["[redacted]"]}}}}`,
		},
		"text that is one": {
			"null", `{"a":"Bearer abcdefgh","b":"see ` + key + `.","c":["postgres://u:p@h/d"],"d":"-----BEGIN RSA PRIVATE KEY-----\nx","e":"https://h/a@b:c"}`,
			nil, `{"after":{"a":"[redacted]","b":"[redacted]","c":["[redacted]"],"d":"[redacted]","e":"https://h/a@b:c"}}`,
		},
		"no escapes for HTML": {"null", `{"a":"<&>"}`, nil, `{"after":{"a":"<&>"}}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := event.Changes(json.RawMessage(test.before), json.RawMessage(test.after), test.secret...)
			if err != nil {
				t.Fatal(err)
			}
			if !sameJSON(t, string(got), test.want) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func sameJSON(t *testing.T, got, want string) bool {
	t.Helper()
	if got == "" || want == "" {
		return got == want
	}
	var left, right any
	if err := json.Unmarshal([]byte(got), &left); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &right); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(left, right)
}

func TestChangesAreOfObjects(t *testing.T) {
	t.Parallel()
	for _, value := range []any{1, "a", []int{1}, true, json.RawMessage("{"), func() {}} {
		if _, err := event.Changes(nil, value); err == nil {
			t.Errorf("%T is taken", value)
		}
	}
}

func TestChangesAreBounded(t *testing.T) {
	t.Parallel()
	many := map[string]any{}
	for i := range 5000 {
		many[fmt.Sprintf("member-%04d", i)] = i
	}
	deep := any("x")
	for range 200 {
		deep = map[string]any{"a": []any{deep}}
	}
	long := strings.Repeat("é", event.MaxChanges)
	tests := map[string]struct {
		after map[string]any
		keeps string
	}{
		"long text":       {map[string]any{"reason": long, "a": 1}, `"a":1`},
		"large member":    {map[string]any{"list": many, "a": 1}, `"list":"[omitted]"`},
		"many members":    {many, `"…":"+4`},
		"many texts":      {map[string]any{"a": long, "b": long, "c": long, "d": "kept"}, `"d":"kept"`},
		"a long name":     {map[string]any{long: 1, "a": 2}, `"a":2`},
		"deep":            {map[string]any{"deep": deep}, `"[omitted]"`},
		"small ones stay": {map[string]any{"large": many, "small": strings.Repeat("x", 5000)}, strings.Repeat("x", 5000)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, before := range []any{nil, map[string]any{"z": long}} {
				got, err := event.Changes(before, test.after)
				if err != nil {
					t.Fatal(err)
				}
				if len(got) > event.MaxChanges || !utf8.Valid(got) || !strings.Contains(string(got), test.keeps) {
					t.Errorf("%d bytes: %.300s", len(got), got)
				}
			}
		})
	}
}

// FuzzChanges: whatever is changed, a secret stays out, and the result is bounded and of the one shape.
func FuzzChanges(f *testing.F) {
	f.Add("a", `{"b":1}`, `{"b":2,"c":"x"}`)
	f.Add("password", `{}`, `null`)
	f.Add("token_id", `{"a":{"a":{"a":[1,{"key":"x"}]}}}`, `{"a":{"a":{"a":[]}}}`)
	f.Fuzz(func(t *testing.T, name, before, after string) {
		const secret = "hunter2-" + "marker"
		if strings.Contains(name+before+after, "hunter2") {
			t.Skip()
		}
		var was, is map[string]any
		if json.Unmarshal([]byte(before), &was) != nil || json.Unmarshal([]byte(after), &is) != nil {
			t.Skip()
		}
		for _, side := range []map[string]any{was, is} {
			if side != nil {
				side[name] = map[string]any{"api_key": secret + name, "list": []any{map[string]any{"Password": secret}}}
				side["secret"] = map[string]any{name: []any{secret}}
				side["marked"] = secret
			}
		}
		got, err := event.Changes(was, is, "marked")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := event.Changes(was, is, "marked"); err != nil || string(again) != string(got) {
			t.Fatalf("another result the second time: %s, %v", again, err)
		}
		if strings.Contains(string(got), "hunter2") || len(got) > event.MaxChanges {
			t.Fatalf("%d bytes: %s", len(got), got)
		}
		if got == nil {
			return
		}
		var sides map[string]map[string]any
		if err := json.Unmarshal(got, &sides); err != nil {
			t.Fatal(err)
		}
		if (sides["before"] != nil) != (was != nil) || (sides["after"] != nil) != (is != nil) {
			t.Fatalf("the sides of %s", got)
		}
	})
}

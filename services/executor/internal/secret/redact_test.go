package secret_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/services/executor/internal/secret"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	secrets := map[string]any{ //nolint:gosec // they open nothing
		"token": "s3cr/t+\"é\n<x>", "pin": "123456", "short": "abc", "line": "  padded \n", "number": 5.0, "empty": "",
	}
	token, _ := secrets["token"].(string)
	basic := base64.StdEncoding.EncodeToString([]byte("user:" + token))
	for name, test := range map[string]struct{ in, out any }{
		"whole":            {token, "[secret:token]"},
		"within":           {"Bearer " + token + "!", "Bearer [secret:token]!"},
		"twice":            {token + token, "[secret:token][secret:token]"},
		"base64":           {base64.StdEncoding.EncodeToString([]byte(token)), "[secret:token]"},
		"base64, raw URL":  {"?k=" + base64.RawURLEncoding.EncodeToString([]byte(token)), "?k=[secret:token]"},
		"query":            {"?k=" + url.QueryEscape(token) + "&x", "?k=[secret:token]&x"},
		"query, small":     {"?k=" + strings.ToLower(url.QueryEscape(token)), "?k=[secret:token]"},
		"path":             {"/" + url.PathEscape(token), "/[secret:token]"},
		"JSON":             {`{"a":"s3cr/t+\"é\n<x>"}`, `{"a":"[secret:token]"}`},
		"JSON for HTML":    {`{"a":"s3cr/t+\"é\n\u003cx\u003e"}`, `{"a":"[secret:token]"}`},
		"JSON in ASCII":    {`{"a":"s3cr/t+\"\u00e9\n<x>"}`, `{"a":"[secret:token]"}`},
		"quoted by Go":     {fmt.Sprintf("dial %q: refused", "http://"+token), `dial "http://[secret:token]": refused`},
		"trimmed":          {"X: padded.", "X: [secret:line]."},
		"key of an object": {map[string]any{"k " + token: 1.0}, map[string]any{"k [secret:token]": 1.0}},
		"deep":             {[]any{1.0, map[string]any{"a": []any{nil, "123456"}}}, []any{1.0, map[string]any{"a": []any{nil, "[secret:pin]"}}}},
		"number":           {[]any{123456.0, 1234567.0}, []any{"[secret:pin]", 1234567.0}},
		"short, whole":     {[]any{"abc", "YWJj"}, []any{"[secret:short]", "[secret:short]"}},
		"short, within":    {"abcd", "abcd"},
		"nothing":          {[]any{true, nil, "", 5.0}, []any{true, nil, "", 5.0}},
	} {
		assert.Equal(t, test.out, secret.Redact(test.in, secrets), name)
	}
	redacted := secret.RedactText("Authorization: Basic "+basic, secrets)
	assert.Regexp(t, `^Authorization: Basic [A-Za-z0-9]{7}\[secret:token\][A-Za-z0-9+/=]{0,4}$`, redacted)
	assert.Equal(t, "no [secret:pin]", secret.RedactText(errors.New("no 123456").Error(), secrets))
	assert.Equal(t, "123456", secret.Redact("123456", nil))
	assert.Equal(t, "123456", secret.RedactText("123456", nil))
}

func TestOverlaps(t *testing.T) {
	t.Parallel()
	secrets := map[string]any{"a": "abcdef", "b": "defghi", "long": "abcdefxyz", "periodic": "0101010"}
	assert.Equal(t, "<[secret:a]>", secret.RedactText("<abcdefghi>", secrets))
	assert.Equal(t, "<[secret:long]>", secret.RedactText("<abcdefxyz>", secrets))
	assert.Equal(t, "<[secret:periodic]>", secret.RedactText("<010101010101010>", secrets))
	assert.Equal(t, "<[secret:periodic][secret:periodic]1>", secret.RedactText("<010101001010101>", secrets))
}

// A text that is nothing but overlapping occurrences takes about as long as any other.
func TestLongTexts(t *testing.T) {
	t.Parallel()
	began := time.Now()
	secrets := map[string]any{"a": strings.Repeat("a", 16<<10), "b": strings.Repeat("a", 16<<10-1) + "b"}
	assert.Equal(t, "[secret:a]", secret.RedactText(strings.Repeat("a", 1<<20), secrets))
	assert.Less(t, time.Since(began), 10*time.Second)
}

func TestNothingIsCopiedOrChanged(t *testing.T) {
	t.Parallel()
	secrets := map[string]any{"token": "hunter2"}
	clean := map[string]any{"a": []any{"b"}}
	same := secret.Redact(clean, secrets)
	assert.Equal(t, reflect.ValueOf(clean).Pointer(), reflect.ValueOf(same).Pointer())

	dirty := map[string]any{"a": []any{"hunter2"}, "b": clean}
	redacted, _ := secret.Redact(dirty, secrets).(map[string]any)
	assert.Equal(t, map[string]any{"a": []any{"hunter2"}, "b": clean}, dirty)
	assert.Equal(t, reflect.ValueOf(clean).Pointer(), reflect.ValueOf(redacted["b"]).Pointer())
}

// formsOf is written without the package's own list.
func formsOf(t *rapid.T, text string) []string {
	escaped, err := json.Marshal(text)
	require.NoError(t, err)
	return []string{
		text, base64.StdEncoding.EncodeToString([]byte(text)), base64.URLEncoding.EncodeToString([]byte(text)),
		base64.RawStdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)),
		url.QueryEscape(text), url.PathEscape(text), string(escaped[1 : len(escaped)-1]),
	}
}

func TestNoFormRemains(t *testing.T) {
	t.Parallel()
	letters := rapid.SampledFrom([]rune("ab01%+/\\\"\n &<=é€😀Az")) // few, so that texts and secrets overlap
	rapid.Check(t, func(t *rapid.T) {
		secrets := map[string]any{}
		var forms []string
		for i, text := range rapid.SliceOfN(rapid.StringOfN(letters, 4, 12, -1), 1, 3).Draw(t, "secrets") {
			secrets[string(rune('X'+i))] = text
			forms = append(forms, formsOf(t, text)...)
		}
		part := rapid.OneOf(rapid.SampledFrom(forms), rapid.StringOfN(letters, 0, 8, -1))
		whole := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(part, 0, 6).Draw(t, "parts"), "") })
		value := map[string]any{
			whole.Draw(t, "key"): []any{whole.Draw(t, "item"), map[string]any{"a": whole.Draw(t, "deep")}, 1.0, nil, true},
		}
		var check func(value any)
		check = func(value any) {
			switch value := value.(type) {
			case string:
				for name := range secrets {
					value = strings.ReplaceAll(value, "[secret:"+name+"]", "\x00")
				}
				for _, form := range forms {
					require.NotContains(t, value, form)
				}
			case []any:
				for _, item := range value {
					check(item)
				}
			case map[string]any:
				for key, item := range value {
					check(key)
					check(item)
				}
			}
		}
		check(secret.Redact(value, secrets))
	})
}

// Wherever a secret stands in what is encoded in base64 as a whole, what remains does not tell it.
func TestBase64AtEveryPlace(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(4, 40, 60).Draw(t, "secret")
		before, after := rapid.StringN(0, 9, 20).Draw(t, "before"), rapid.StringN(0, 9, 20).Draw(t, "after")
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
			encoded := encoding.EncodeToString([]byte(before + text + after))
			redacted := secret.RedactText(encoded, map[string]any{"s": text})
			require.Contains(t, redacted, "[secret:s]")
			// At most one character on each side holds some bits of the secret beside those of its neighbours.
			rest := len(redacted) - len("[secret:s]")
			require.LessOrEqual(t, rest, (len(before)+len(after))*8/6+2+2+2)
		}
	})
}

func FuzzRedact(f *testing.F) {
	f.Add("hunter2", "see hunter2!")
	f.Add("%41+/", "%2541%2B%2F")
	f.Fuzz(func(t *testing.T, text, in string) {
		redacted := secret.RedactText(in, map[string]any{"\x00": text})
		if len(text) >= 4 {
			assert.NotContains(t, strings.ReplaceAll(redacted, "[secret:\x00]", "\x01\x00\x01"), text)
		}
	})
}

package secret

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// minWithin is the least that a secret's text must have to be looked for within longer texts: shorter ones are found by chance.
const minWithin = 4

// Redact gives value, what encoding/json decodes into, with every occurrence of a secret's text replaced by "[secret:<name>]", in
// keys of maps as well. Occurrences are those of the text as it is and of its usual encodings; a text under four bytes is only
// replaced where it is the whole of a string. A number is replaced where it spells a secret of four digits or more. Nothing is changed
// in place, and what holds no secret is given back as it is.
func Redact(value any, secrets map[string]any) any {
	if len(secrets) == 0 {
		return value
	}
	redacted, _ := newRedactor(secrets).value(value)
	return redacted
}

// RedactText does the same for a text, such as the message of an error.
func RedactText(text string, secrets map[string]any) string {
	if len(secrets) == 0 {
		return text
	}
	redacted, _ := newRedactor(secrets).text(text)
	return redacted
}

// redactor knows the texts to look for.
type redactor struct {
	// within are looked for everywhere, longest first; whole are those that a string may be as a whole.
	within []form
	whole  map[string]string
}

// form is a secret's text as it may occur, and what comes in its place.
type form struct{ text, marker string }

func newRedactor(secrets map[string]any) *redactor {
	r := &redactor{whole: make(map[string]string)}
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		text, _ := secrets[name].(string)
		r.add(text, "[secret:"+name+"]")
		// Headers are sent without the space around them.
		r.add(strings.TrimSpace(text), "[secret:"+name+"]")
	}
	slices.SortStableFunc(r.within, func(a, b form) int { return cmp.Compare(len(b.text), len(a.text)) })
	r.within = slices.CompactFunc(r.within, func(a, b form) bool { return a.text == b.text })
	return r
}

func (r *redactor) add(text, marker string) {
	if text == "" {
		return
	}
	for _, encoded := range encodings(text) {
		if _, known := r.whole[encoded]; !known {
			r.whole[encoded] = marker
		}
		if len(text) >= minWithin {
			r.within = append(r.within, form{encoded, marker})
		}
	}
	if len(text) >= minWithin {
		for _, core := range base64Cores(text) {
			r.within = append(r.within, form{core, marker})
		}
	}
}

// encodings are the ways in which a whole text is commonly written.
func encodings(text string) []string {
	raw := []byte(text)
	found := []string{
		text,
		base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
		jsonEscaped(text, true), jsonEscaped(text, false), asciiEscaped(text), trimQuotes(strconv.Quote(text)),
	}
	for _, escaped := range []string{
		url.QueryEscape(text), url.PathEscape(text), strings.ReplaceAll(url.QueryEscape(text), "+", "%20"), componentEscaped(text),
	} {
		found = append(found, escaped, lowerHex(escaped))
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// base64Cores are what base64 makes of a text wherever it stands in a longer one, as a password does in basic authentication: the
// characters that the text alone decides, for each of the three ways in which it may be aligned.
func base64Cores(text string) []string {
	var cores []string
	for before := range 3 {
		padded := append(make([]byte, before), text...)
		first, end := (before*8+5)/6, len(padded)*8/6
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			cores = append(cores, encoding.EncodeToString(padded)[first:end])
		}
	}
	return cores
}

func jsonEscaped(text string, html bool) string {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(html)
	_ = encoder.Encode(text) // a string and a buffer do not fail
	return trimQuotes(strings.TrimSuffix(buffer.String(), "\n"))
}

// asciiEscaped is JSON as those write it who escape whatever is not ASCII.
func asciiEscaped(text string) string {
	var b strings.Builder
	for _, r := range jsonEscaped(text, false) {
		if r < 0x80 {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			b.WriteString(`\u` + strconv.FormatUint(0x10000|uint64(unit), 16)[1:])
		}
	}
	return b.String()
}

func trimQuotes(quoted string) string { return quoted[1 : len(quoted)-1] }

// componentEscaped is what JavaScript's encodeURIComponent makes of a text.
func componentEscaped(text string) string {
	return strings.NewReplacer("+", "%20", "%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*").Replace(url.QueryEscape(text))
}

// lowerHex writes the hexadecimal digits of a URL-escaped text small.
func lowerHex(escaped string) string {
	small := []byte(escaped)
	for i := 0; i+2 < len(small); i++ {
		if small[i] == '%' {
			copy(small[i+1:i+3], bytes.ToLower(small[i+1:i+3]))
		}
	}
	return string(small)
}

// value reports, too, whether anything was replaced.
func (r *redactor) value(value any) (redacted any, changed bool) {
	switch value := value.(type) {
	case string:
		return r.text(value)
	case float64:
		text := strconv.FormatFloat(value, 'f', -1, 64)
		if marker, found := r.whole[text]; found && len(text) >= minWithin {
			return marker, true
		}
	case map[string]any:
		return r.object(value)
	case []any:
		return r.array(value)
	}
	return value, false
}

func (r *redactor) object(object map[string]any) (redacted any, changed bool) {
	made := make(map[string]any, len(object))
	for name, value := range object {
		cleanName, newName := r.text(name)
		cleanValue, newValue := r.value(value)
		made[cleanName] = cleanValue
		changed = changed || newName || newValue
	}
	if !changed {
		return object, false
	}
	return made, true
}

func (r *redactor) array(array []any) (redacted any, changed bool) {
	var made []any
	for i, item := range array {
		clean, isNew := r.value(item)
		if isNew && made == nil {
			made = slices.Clone(array)
		}
		if made != nil {
			made[i] = clean
		}
	}
	if made == nil {
		return array, false
	}
	return made, true
}

// span is a part of a text that holds a secret.
type span struct {
	from, to int
	marker   string
}

func (r *redactor) text(text string) (redacted string, changed bool) {
	if marker, found := r.whole[text]; found {
		return marker, true
	}
	var spans []span
	for _, form := range r.within {
		spans = form.occurrences(spans, text)
	}
	if len(spans) == 0 {
		return text, false
	}
	// Where spans overlap, all that any of them covers goes, under the name of the first and longest.
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	done := 0
	for _, s := range spans {
		if s.from >= done {
			b.WriteString(text[done:s.from])
			b.WriteString(s.marker)
		}
		done = max(done, s.to)
	}
	b.WriteString(text[done:])
	return b.String(), true
}

// occurrences appends where the form occurs. Occurrences that overlap are found as one or as a chain: after each comes the last one that
// begins within it, so that a text of many does not take long.
func (f form) occurrences(spans []span, text string) []span {
	for at := 0; ; {
		found := strings.Index(text[at:], f.text)
		if found < 0 {
			return spans
		}
		at += found
		spans = append(spans, span{at, at + len(f.text), f.marker})
		window := text[at+1 : min(len(text), at+2*len(f.text)-1)]
		if last := strings.LastIndex(window, f.text); last >= 0 {
			at += 1 + last
			spans = append(spans, span{at, at + len(f.text), f.marker})
		}
		at++
	}
}

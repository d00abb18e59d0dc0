package sandbox

import (
	"net/mail"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// fewWords is how many words of the prompt make a text.
	fewWords = 8
	// maxFilled is the most bytes of a text that a schema can ask for.
	maxFilled = 64 << 10
)

// text is what the prompt says about the field where that fits, else some words of the prompt.
func (f *filler) text(schema map[string]any, at place) string {
	least, most := whole(schema["minLength"], 0), whole(schema["maxLength"], maxFilled)
	if format, ok := schema["format"].(string); ok {
		if made, known := f.facts.formatted(format, at.index); known {
			return made
		}
	}
	if pattern, ok := schema["pattern"].(string); ok {
		if made, known := f.facts.matching(pattern); known {
			return made
		}
	}
	made, told := f.facts.text(at.name)
	if !told {
		made = f.facts.words(at)
	}
	for utf8.RuneCountInString(made) < least && len(made) < maxFilled {
		made = strings.TrimSpace(made + " " + modelName)
	}
	if runes := []rune(made); len(runes) > most {
		made = string(runes[:most])
	}
	return made
}

// matching finds a word of the prompt that matches a regular expression, or makes up a text that does.
func (f *facts) matching(pattern string) (string, bool) {
	expression, err := regexp.Compile(pattern)
	if err != nil {
		return "", false
	}
	for _, word := range f.said {
		if word = strings.Trim(word, ".,:;!?()'"); word != "" && expression.MatchString(word) {
			return word, true
		}
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", false
	}
	made := &strings.Builder{}
	makeMatch(made, parsed.Simplify())
	return made.String(), true
}

// makeMatch writes about the shortest text that a regular expression matches.
func makeMatch(into *strings.Builder, expression *syntax.Regexp) {
	if into.Len() > maxFilled {
		return
	}
	switch expression.Op {
	case syntax.OpLiteral:
		into.WriteString(string(expression.Rune))
	case syntax.OpCharClass:
		into.WriteRune(member(expression.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		into.WriteByte('a')
	case syntax.OpConcat:
		for _, part := range expression.Sub {
			makeMatch(into, part)
		}
	case syntax.OpCapture, syntax.OpPlus, syntax.OpAlternate:
		makeMatch(into, expression.Sub[0])
	case syntax.OpRepeat:
		for range expression.Min {
			makeMatch(into, expression.Sub[0])
		}
	default: // what matches nothing too, and anchors
	}
}

// member is a character of a class: a letter, else a digit, else the first.
func member(ranges []rune) rune {
	for _, wanted := range []rune{'a', 'A', '1', '0'} {
		for i := 0; i+1 < len(ranges); i += 2 {
			if ranges[i] <= wanted && wanted <= ranges[i+1] {
				return wanted
			}
		}
	}
	if len(ranges) == 0 {
		return 'a'
	}
	return ranges[0]
}

// facts is what a prompt tells.
type facts struct {
	prompt string
	lower  string
	// said are its words, subject those of its last paragraph: what it is about comes after what is to be done with it.
	said, subject []string
}

func newFacts(prompt string) facts {
	last := strings.TrimSpace(prompt)
	last = last[strings.LastIndex(last, "\n\n")+1:]
	return facts{prompt: prompt, lower: strings.ToLower(prompt), said: wordsOf(prompt), subject: wordsOf(last)}
}

func wordsOf(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`"{}[]<>`, r)
	})
}

// after finds what stands after the name of a field in the prompt, wherever it is a word.
func (f *facts) after(name string) []string {
	if len(f.lower) != len(f.prompt) {
		return nil // their letters are at other places
	}
	var found []string
	name = strings.ToLower(name)
	for _, spelling := range slices.Compact([]string{name, strings.NewReplacer("_", " ", "-", " ").Replace(name)}) {
		for from := 0; spelling != ""; {
			at := strings.Index(f.lower[from:], spelling)
			if at < 0 {
				break
			}
			before, _ := utf8.DecodeLastRuneInString(f.prompt[:from+at])
			from += at + len(spelling)
			next, _ := utf8.DecodeRuneInString(f.prompt[from:])
			if !isWordRune(before) && !isWordRune(next) {
				found = append(found, strings.TrimLeft(strings.TrimPrefix(f.prompt[from:], `"`), " "))
			}
		}
	}
	return found
}

// text finds the value of a field: name: Chen Dental, or "name": "Chen Dental".
func (f *facts) text(name string) (string, bool) {
	for _, rest := range f.after(name) {
		if value, assigned := strings.CutPrefix(rest, ":"); assigned {
			if value = fact(value); value != "" {
				return value, true
			}
		}
	}
	return "", false
}

// number finds the value of a field: total: 12, "total": 12, or total 12.
func (f *facts) number(at place) (float64, bool) {
	if at.index > 0 {
		return 0, false
	}
	for _, rest := range f.after(at.name) {
		rest = strings.TrimLeft(rest, `:="$ `)
		if end := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' && r != '-' }); end >= 0 {
			rest = rest[:end]
		}
		if number, err := strconv.ParseFloat(strings.TrimRight(rest, "."), 64); err == nil {
			return number, true
		}
	}
	return 0, false
}

func isWordRune(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// fact is the value at the beginning of text: what is in quotes, else up to the end of the line or of a list's item.
func fact(text string) string {
	text = strings.TrimLeft(text, " ")
	if quoted, ok := strings.CutPrefix(text, `"`); ok {
		value, _, _ := strings.Cut(quoted, `"`)
		return shortened(value)
	}
	if end := strings.IndexAny(text, "\n\r,;}]{["); end >= 0 {
		text = text[:end]
	}
	return shortened(text)
}

func shortened(text string) string {
	words := strings.Fields(text)
	return strings.TrimRight(strings.Join(words[:min(len(words), 3*fewWords)], " "), ".")
}

// mentions tells whether the prompt has the word.
func (f *facts) mentions(text string) bool {
	text = strings.ToLower(text)
	for _, word := range f.said {
		if strings.ToLower(strings.Trim(word, ".,:;!?()")) == text {
			return true
		}
	}
	return false
}

// words are some of what the prompt is about, other ones for each item of a list.
func (f *facts) words(at place) string {
	from := 0
	if len(f.subject) > 0 {
		from = at.index * fewWords % len(f.subject)
	}
	text := "Sandbox: " + strings.Trim(strings.Join(f.subject[from:min(len(f.subject), from+fewWords)], " "), ".,:; ")
	if at.index > 0 {
		text += " (" + strconv.Itoa(at.index+1) + ")"
	}
	return text
}

// formatted is a text in one of the formats of JSON Schema; for an address of the prompt, where it has one.
func (f *facts) formatted(format string, index int) (string, bool) {
	find := func(fits func(word string) bool, otherwise string) (string, bool) {
		for _, word := range f.said {
			if word = strings.Trim(word, ".,:;!?()'"); fits(word) {
				return word, true
			}
		}
		return otherwise, true
	}
	switch format {
	case "email":
		return find(isAddress, "somebody@sandbox.example")
	case "uri", "url", "iri", "uri-reference":
		return find(isURL, "https://sandbox.example/")
	case "date":
		return "2026-01-01", true
	case "date-time":
		return "2026-01-01T12:00:00Z", true
	case "time":
		return "12:00:00Z", true
	case "duration":
		return "PT1H", true
	case "uuid":
		const digits = 12
		last := strconv.Itoa(index + 1)
		return "00000000-0000-4000-8000-" + strings.Repeat("0", digits-len(last)) + last, true
	case "hostname":
		return "sandbox.example", true
	case "ipv4":
		return "192.0.2.1", true
	case "ipv6":
		return "2001:db8::1", true
	}
	return "", false
}

func isAddress(word string) bool {
	parsed, err := mail.ParseAddress(word)
	return err == nil && parsed.Address == word
}

func isURL(word string) bool {
	parsed, err := url.Parse(word)
	return err == nil && (parsed.Scheme == "https" || parsed.Scheme == "http") && parsed.Host != ""
}

package actionhttp

import (
	"slices"
	"strings"
)

// nextLink is the target of the first link with the relation next (RFC 8288), empty when there is none. What is not written as the RFC says
// ends the header.
func nextLink(headers []string) string {
	for _, rest := range headers {
		for rest != "" {
			var link, relation string
			var ok bool
			if link, relation, rest, ok = cutLink(rest); !ok {
				break
			}
			if slices.ContainsFunc(strings.Fields(relation), func(name string) bool { return strings.EqualFold(name, "next") }) {
				return link
			}
		}
	}
	return ""
}

// cutLink takes the first link off, <target>; name=value; name="value", of a list with commas.
func cutLink(text string) (target, relation, rest string, ok bool) {
	text = strings.TrimLeft(text, " \t,")
	if !strings.HasPrefix(text, "<") {
		return "", "", "", false
	}
	target, rest, ok = strings.Cut(text[1:], ">")
	if !ok {
		return "", "", "", false
	}
	for {
		rest = strings.TrimLeft(rest, " \t")
		if !strings.HasPrefix(rest, ";") {
			return strings.TrimSpace(target), relation, rest, rest == "" || rest[0] == ','
		}
		var name, value string
		name, value, rest = cutParameter(rest[1:])
		if strings.EqualFold(name, "rel") && relation == "" {
			relation = value
		}
	}
}

// cutParameter takes name=value off, where the value may be quoted.
func cutParameter(text string) (name, value, rest string) {
	end := strings.IndexAny(text, "=;,")
	if end < 0 || text[end] != '=' {
		if end < 0 {
			end = len(text)
		}
		return strings.TrimSpace(text[:end]), "", text[end:]
	}
	name, text = strings.TrimSpace(text[:end]), strings.TrimLeft(text[end+1:], " \t")
	if !strings.HasPrefix(text, `"`) {
		if end = strings.IndexAny(text, ";,"); end < 0 {
			end = len(text)
		}
		return name, strings.TrimSpace(text[:end]), text[end:]
	}
	var unquoted strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return name, unquoted.String(), text[i+1:]
		case '\\':
			if i++; i < len(text) {
				unquoted.WriteByte(text[i])
			}
		default:
			unquoted.WriteByte(text[i])
		}
	}
	return name, unquoted.String(), ""
}

package event

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
)

// Redacted stands in place of a secret.
const Redacted = "[redacted]"

// redaction takes secrets out of JSON values. What is below one of the names is secret, too.
type redaction struct{ names []string }

func (r redaction) object(members map[string]any, secret bool, depth int) map[string]any {
	if members == nil {
		return nil
	}
	clean := make(map[string]any, len(members))
	for name, value := range members {
		hidden := secret || slices.Contains(r.names, name) || namesSecret(name)
		if number, isNumber := value.(json.Number); isNumber && !secret && countsTokens(name) && !slices.Contains(r.names, name) {
			clean[name] = number
			continue
		}
		clean[name] = r.value(value, hidden, depth+1)
	}
	return clean
}

// value keeps the names in an object that is secret, and nothing else of it.
func (r redaction) value(value any, secret bool, depth int) any {
	if depth > maxNesting {
		return Omitted
	}
	switch value := value.(type) {
	case nil:
		return nil
	case map[string]any:
		return r.object(value, secret, depth)
	case []any:
		clean := make([]any, len(value))
		for i, item := range value {
			clean[i] = r.value(item, secret, depth+1)
		}
		return clean
	case string:
		if secret || looksSecret(value) {
			return Redacted
		}
		return value
	}
	if secret {
		return Redacted
	}
	return value
}

// namesSecret tells whether a member is a secret by its name.
func namesSecret(name string) bool {
	words := wordsOf(name)
	if len(words) == 0 {
		return false
	}
	switch words[len(words)-1] {
	case "id", "ids", "name", "names", "count", "at", "type", "kind", "fingerprint": // something about a secret
		return false
	}
	for _, word := range words {
		switch word {
		case "key", "keys", "auth", "pwd", "pass", "pin", "otp", "cookie", "cookies", "bearer", "dsn", "jwt", "signature", "private":
			return true
		}
	}
	joined := strings.Join(words, "")
	for _, part := range []string{
		"secret", "password", "passwd", "passphrase", "passcode", "token", "apikey", "privatekey", "accesskey", "authorization", "credential",
	} {
		if strings.Contains(joined, part) {
			return true
		}
	}
	return false
}

// countsTokens tells a number of a language model's tokens from a token.
func countsTokens(name string) bool {
	words := wordsOf(name)
	return len(words) > 0 && words[len(words)-1] == "tokens"
}

// wordsOf splits a name such as "apiKey", "API_KEY" or "x-api-key", and gives its words in small letters.
func wordsOf(name string) []string {
	var words []string
	letters := []rune(name)
	begin := 0
	end := func(at int) {
		if at > begin {
			words = append(words, strings.ToLower(string(letters[begin:at])))
		}
	}
	for i, letter := range letters {
		switch {
		case !unicode.IsLetter(letter) && !unicode.IsDigit(letter):
			end(i)
			begin = i + 1
		case i > begin && unicode.IsUpper(letter) &&
			(!unicode.IsUpper(letters[i-1]) || i+1 < len(letters) && unicode.IsLower(letters[i+1])):
			end(i)
			begin = i
		}
	}
	end(len(letters))
	return words
}

const (
	// apiKeyPrefix begins galley's own API keys, which have so many characters after it.
	apiKeyPrefix = "gk_"
	apiKeyLength = 43
)

// looksSecret finds what is a secret whatever it is called: an API key of galley, a private key, the value of an Authorization header, an
// address with a password in it.
func looksSecret(text string) bool {
	return holdsAPIKey(text) || strings.Contains(text, "-----BEGIN ") && strings.Contains(text, "PRIVATE KEY") ||
		isCredential(text) || holdsPassword(text)
}

func holdsAPIKey(text string) bool {
	for {
		_, after, found := strings.Cut(text, apiKeyPrefix)
		if !found {
			return false
		}
		end := strings.IndexFunc(after, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
		if end < 0 {
			end = len(after)
		}
		if end >= apiKeyLength {
			return true
		}
		text = after
	}
}

func isCredential(text string) bool {
	scheme, value, found := strings.Cut(strings.TrimSpace(text), " ")
	const shortest = 8
	return found && (strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "Basic")) && len(value) >= shortest &&
		!strings.Contains(value, " ")
}

func holdsPassword(text string) bool {
	for {
		_, after, found := strings.Cut(text, "://")
		if !found {
			return false
		}
		host := after
		if end := strings.IndexAny(host, "/?# \t\r\n\"'"); end >= 0 {
			host = host[:end]
		}
		at := strings.LastIndex(host, "@")
		if at > 0 && strings.Contains(host[:at], ":") {
			return true
		}
		text = after
	}
}

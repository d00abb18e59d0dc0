// Package refusal says what is wrong with a question about the audit log, whatever it asks for.
package refusal

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

// maxText is the longest id or name that a question may hold, in bytes.
const maxText = 256

// Of is a *problem.Error that says what is wrong.
func Of(format string, args ...any) error {
	return problem.Failure(problem.InvalidRequest, format, args...)
}

// Customer refuses what is not the id of a customer, nor one of the words that stand for others.
func Customer(id string, words ...string) error {
	if subject.ValidID(id) || slices.Contains(words, id) {
		return nil
	}
	return Of("customer_id %v", subject.ErrInvalidID)
}

// Text refuses what Postgres would not take for text, and what is too long to be looked for.
func Text(name, text string) error {
	if len(text) > maxText || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return Of("%s must be text of at most %d bytes", name, maxText)
	}
	return nil
}

package aichat

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/aichat/internal/llm"
)

// maxQuoted is how much of a wrong answer, in bytes, the model is shown again.
const maxQuoted = 64 << 10

// form is what an answer has to look like.
type form struct {
	schema   *recipe.Schema
	document map[string]any
	// text is the document as JSON.
	text string
}

func newForm(document map[string]any) (*form, error) {
	schema, err := recipe.CompileSchema(document)
	if violations, ok := errors.AsType[recipe.Violations](err); ok {
		err = violations[:1]
	}
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "output_schema is not a JSON Schema: %v", err)
	}
	text, err := json.Marshal(document)
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "output_schema cannot be written as JSON")
	}
	return &form{schema: schema, document: document, text: string(text)}, nil
}

// addTo asks for the form in a request.
func (f *form) addTo(request *llm.Request) {
	const instruction = "Answer with one JSON value that fits the JSON Schema below, and with nothing around it.\n\n"
	if request.System != "" {
		request.System += "\n\n"
	}
	request.System += instruction + f.text
	if f.document["type"] == "object" { // servers enforce nothing but objects
		request.Schema = f.document
	}
}

// filled is an answer in its form.
type filled struct {
	text string
	data any
}

// read finds the JSON of an answer and checks it.
func (f *form) read(answer *llm.Answer) (*filled, *misfit) {
	if answer.Cut {
		return nil, &misfit{cut: true}
	}
	var found filled
	var compact bytes.Buffer
	text := []byte(jsonIn(answer.Text))
	if err := errors.Join(json.Unmarshal(text, &found.data), json.Compact(&compact, text)); err != nil {
		return nil, &misfit{what: "It is not valid JSON."}
	}
	found.text = compact.String()
	err := f.schema.Validate(found.data)
	if err == nil {
		return &found, nil
	}
	wrong := &misfit{isJSON: true, what: err.Error()}
	if violations, ok := errors.AsType[recipe.Violations](err); ok && len(violations) > 0 {
		wrong.where = f.known(violations[0].Path)
	}
	return nil, wrong
}

// jsonIn is the JSON in a text: all of it, or what stands in a code fence.
func jsonIn(text string) string {
	const fence = "```"
	begin, end := strings.Index(text, fence), strings.LastIndex(text, fence)
	if begin == end || json.Valid([]byte(text)) {
		return text
	}
	return strings.TrimPrefix(text[begin+len(fence):end], "json")
}

// known is the path up to the first name that does not stand in the schema: such names are the model's.
func (f *form) known(path string) string {
	tokens := strings.Split(path, "/")
	end := slices.IndexFunc(tokens[1:], func(token string) bool {
		name, _ := json.Marshal(strings.NewReplacer("~1", "/", "~0", "~").Replace(token)) // a string does not fail
		_, err := strconv.ParseUint(token, 10, 16)
		return err != nil && !strings.Contains(f.text, string(name))
	})
	if end >= 0 {
		tokens = tokens[:end+1]
	}
	return strings.Join(tokens, "/")
}

// misfit is what is wrong with an answer; nil for nothing.
type misfit struct {
	// cut says that the answer was ended by the limit of tokens.
	cut, isJSON bool
	// what is for the model and may quote it. where is a place in the answer, "" for all of it.
	what, where string
}

// correct adds to a conversation the wrong answer and what is wrong with it.
func (m *misfit) correct(conversation []llm.Message, answer string) []llm.Message {
	corrected := slices.Clone(conversation)
	if strings.TrimSpace(answer) != "" { // an empty message is refused
		corrected = append(corrected, llm.Message{Role: "assistant", Content: prefix(answer, maxQuoted)})
	}
	return append(corrected, llm.Message{Role: "user", Content: "Your answer does not fit the JSON Schema. " + prefix(m.what, maxQuoted) +
		"\n\nAnswer again with the corrected JSON value and nothing around it."})
}

// prefix is the beginning of a text, up to a limit in bytes, and only whole characters.
func prefix(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	end := limit
	for end > limit-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// failure is what the customer is told: nothing that the model wrote.
func (m *misfit) failure() error {
	const wrong = "the answer of the model does not fit output_schema, also when it was told so"
	switch {
	case m == nil:
		return nil
	case m.cut:
		return component.Failure(problem.ModelOutputInvalid, "max_output_tokens cut the answer off: it cannot fit output_schema")
	case !m.isJSON:
		return component.Retryable(problem.ModelOutputInvalid, "the model did not answer with JSON, also when it was told so")
	case m.where == "":
		return component.Retryable(problem.ModelOutputInvalid, wrong)
	}
	return component.Retryable(problem.ModelOutputInvalid, "%s: see %s", wrong, m.where)
}

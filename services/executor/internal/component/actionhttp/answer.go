package actionhttp

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// form is what becomes of the body of an answer.
type form string

const (
	// formAuto decodes what says that it is JSON, takes other text as a string, and refuses what is neither.
	formAuto form = "auto"
	// formJSON decodes whatever the answer says that it is, and refuses what is not JSON.
	formJSON form = "json"
	// formText takes whatever comes as a string.
	formText form = "text"
	// formFile stores it and gives the reference.
	formFile form = "file"
)

func formOf(value any) (form, error) {
	if value == nil {
		return formAuto, nil
	}
	name, _ := value.(string)
	switch form := form(name); form {
	case formAuto, formJSON, formText, formFile:
		return form, nil
	}
	return "", component.Failure(problem.ComponentError, "response is none of auto, json, text and file")
}

// read decodes the body of an answer.
func read(form form, response *http.Response) (any, error) {
	body, err := outbound.ReadBody(response, MaxBody)
	if err != nil || len(body) == 0 {
		return nil, err
	}
	contentType := response.Header.Get(headerContentType)
	switch {
	case form == formJSON:
		return decodeJSON(contentType, body)
	case form == formAuto && isJSON(contentType):
		var decoded any
		if err := json.Unmarshal(body, &decoded); err != nil {
			return nil, component.Failure(problem.ComponentError, "the answer says that it is JSON and is not")
		}
		return decoded, nil
	case form == formAuto && !isText(contentType) && !looksLikeText(body):
		return nil, component.Failure(problem.ComponentError, "the answer is not text (%s): keep it with response: file", mediaType(contentType))
	}
	return strings.ToValidUTF8(string(body), "\uFFFD"), nil
}

func decodeJSON(contentType string, body []byte) (any, error) {
	var decoded any
	if err := json.Unmarshal(body, &decoded); err != nil {
		return nil, component.Failure(problem.ComponentError, "the answer is not JSON (%s)", mediaType(contentType))
	}
	return decoded, nil
}

// mediaType is what an answer says that it is, for people: without parameters, and nothing but the characters of media types.
func mediaType(contentType string) string {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil || len(media) > 100 {
		return "of no known type"
	}
	return media
}

func isText(contentType string) bool {
	return strings.HasPrefix(mediaType(contentType), "text/")
}

func looksLikeText(body []byte) bool {
	return utf8.Valid(body) && !bytes.Contains(body, []byte{0})
}

func decodeHeader(header http.Header) map[string]any {
	decoded := make(map[string]any, len(header))
	for name, values := range header {
		decoded[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(values, ", "), "\uFFFD")
	}
	return decoded
}

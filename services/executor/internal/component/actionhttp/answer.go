package actionhttp

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

func decodeBody(contentType string, body []byte) (any, error) {
	if len(body) == 0 {
		return nil, nil
	}
	if !isJSON(contentType) {
		return strings.ToValidUTF8(string(body), "\uFFFD"), nil
	}
	var decoded any
	if err := json.Unmarshal(body, &decoded); err != nil {
		return nil, component.Failure(problem.ComponentError, "the answer says that it is JSON and is not")
	}
	return decoded, nil
}

func decodeHeader(header http.Header) map[string]any {
	decoded := make(map[string]any, len(header))
	for name, values := range header {
		decoded[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(values, ", "), "\uFFFD")
	}
	return decoded
}

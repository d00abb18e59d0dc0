package event

import (
	"bytes"
	"encoding/json"
)

// Encode writes JSON without the escapes that HTML would need, which would count where the size of what is written is bounded.
func Encode(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}

package engine

import (
	"bytes"
	"encoding/json"
)

// size is about the length of value as JSON. It stops counting soon after limit: a value can name a large part of itself many
// times.
func size(value any, limit int) int {
	const (
		scalar = 8
		quotes = 3 // two, and the comma or colon that follows
	)
	switch value := value.(type) {
	case string:
		return len(value) + quotes
	case map[string]any:
		total := quotes
		for key, item := range value {
			total += len(key) + quotes + size(item, limit-total)
			if total > limit {
				break
			}
		}
		return total
	case []any:
		total := quotes
		for _, item := range value {
			total += 1 + size(item, limit-total)
			if total > limit {
				break
			}
		}
		return total
	}
	return scalar
}

// encode writes JSON without the escapes that HTML would need.
func encode(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}

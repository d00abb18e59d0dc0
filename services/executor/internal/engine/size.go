package engine

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

package webhook

// Sign signs a body.
func Sign(key Key, id, timestamp, body string) string {
	return key.sign(id, timestamp, []byte(body))
}

package webhook

// Sign signs with a secret as recipes give it.
func Sign(secret, id, timestamp, body string) (string, error) {
	key, err := decodeSecret(secret)
	if err != nil {
		return "", err
	}
	return sign(key, id, timestamp, []byte(body)), nil
}

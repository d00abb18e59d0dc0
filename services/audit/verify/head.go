package verify

// OpenHead reads a signed tree head. The error is ErrSignature when the key did not sign it, or ErrKey.
func OpenHead(note string, options Options) (Head, error) {
	set, err := options.settings()
	if err != nil {
		return Head{}, err
	}
	head, err := set.open([]byte(note))
	if err != nil {
		return Head{}, err
	}
	return publicHead(head), nil
}

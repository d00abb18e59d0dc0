package billing

// Config has no settings: what billing needs is the same for every service.
type Config struct{}

// Validate finds nothing wrong.
func (Config) Validate() error { return nil }

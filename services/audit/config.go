package audit

// Config holds the settings that only this service has. There are none yet.
type Config struct{}

// Validate joins everything that is wrong.
func (Config) Validate() error {
	return nil
}

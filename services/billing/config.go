package billing

import (
	"fmt"
	"time"
)

const minReconcileInterval = time.Minute

// Config holds the settings of billing alone.
type Config struct {
	// ReconcileInterval is how long after one reconciliation the next one begins; 0 for never.
	ReconcileInterval time.Duration `env:"GALLEY_RECONCILE_INTERVAL" envDefault:"1h"`
}

// Validate refuses an interval that would have billing do little else.
func (c Config) Validate() error {
	if c.ReconcileInterval != 0 && c.ReconcileInterval < minReconcileInterval {
		return fmt.Errorf("GALLEY_RECONCILE_INTERVAL is %v: must be 0 or at least %v", c.ReconcileInterval, minReconcileInterval)
	}
	return nil
}

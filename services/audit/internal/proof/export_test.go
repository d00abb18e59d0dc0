package proof

import "time"

// Patiently has the Prover wait for so long.
func (p *Prover) Patiently(wait time.Duration) *Prover {
	p.patience, p.lateness = wait, wait
	return p
}

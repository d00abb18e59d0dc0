package webhook

import "time"

// PauseAfter is how long a webhook with so many failures before is left alone.
func PauseAfter(failures int, interval time.Duration, err error) time.Duration {
	return pauseAfter(&target{Failures: failures, Interval: int64(interval / time.Second)}, err)
}

// Often has the deliverer look often.
func (d *Deliverer) Often() *Deliverer {
	d.pause = 5 * time.Millisecond
	return d
}

package harness

import (
	"context"
	"path/filepath"
)

// AddWorker starts an instance of worker.count under a name of its own, by which it is killed and started again as every other program is.
// It must not be called while others use the installation.
func (i *Installation) AddWorker(ctx context.Context, name string) error {
	i.mu.Lock()
	i.add(&program{name: name, path: filepath.Join(i.binaries, Worker), args: []string{i.natsURL}})
	i.mu.Unlock()
	return i.Start(ctx, name)
}

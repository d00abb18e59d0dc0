package executor

import (
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/pkg/testkit"
)

// TestEveryKindHasAComponent keeps what recipes may use and what can be run the same.
func TestEveryKindHasAComponent(t *testing.T) {
	t.Parallel()
	messages, err := bus.New(testkit.NATS(t).Conn(t), bus.Settings{Replicas: 1, JournalRetention: 72 * time.Hour}, zerolog.Nop())
	require.NoError(t, err)
	all, err := newComponents(Config{}, process.Deps{Bus: messages, Clock: clock.System})
	require.NoError(t, err)
	defer func() { assert.NoError(t, all.close()) }()
	compiler, err := recipe.NewCompiler()
	require.NoError(t, err)
	for _, described := range compiler.Components() {
		_, found := all.Registry[described.Kind]
		assert.Equal(t, !described.Waits, found, described.Kind)
		delete(all.Registry, described.Kind)
	}
	assert.Empty(t, all.Registry, "what nobody may use")
}

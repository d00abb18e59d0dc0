package slot

import (
	"testing"

	"github.com/galley-engine/galley/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

package config_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/config"
)

type settings struct {
	Addr string        `env:"GALLEY_ADDR" envDefault:"127.0.0.1:1"`
	Wait time.Duration `env:"GALLEY_WAIT"`
}

func (s *settings) Validate() error {
	if s.Wait < 0 {
		return errors.New("GALLEY_WAIT is negative")
	}
	return nil
}

func TestLoad(t *testing.T) {
	t.Parallel()
	var read settings
	require.NoError(t, config.Load(&read, []string{"GALLEY_WAIT=3s", "HOME=/", "GALLEY_OTHER=1"}, "GALLEY_OTHER"))
	require.Equal(t, settings{Addr: "127.0.0.1:1", Wait: 3 * time.Second}, read)
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environ []string
		want    string
	}{
		"unknown variable": {[]string{"GALLEY_ADRR=x"}, "GALLEY_ADRR is not a setting (known: GALLEY_ADDR, GALLEY_WAIT)"},
		"bad value":        {[]string{"GALLEY_WAIT=soon"}, `"Wait"`},
		"invalid":          {[]string{"GALLEY_WAIT=-1s"}, "GALLEY_WAIT is negative"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var read settings
			require.ErrorContains(t, config.Load(&read, test.environ), test.want)
		})
	}
}

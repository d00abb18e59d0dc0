// Package config reads settings from environment variables that start with GALLEY_. A variable with that prefix which nobody
// knows is an error: a misspelt setting must not be silently ignored.
package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Prefix is what every variable of galley starts with.
const Prefix = "GALLEY_"

// Validator is a configuration that can tell everything that is wrong with it.
type Validator interface {
	Validate() error
}

// Load fills target, a pointer to a struct with env tags, from environ ("NAME=value", as os.Environ gives it) and validates it.
// The error joins every problem: values that do not parse, unknown variables, and what Validate says. Names in also are
// allowed without being read.
func Load(target Validator, environ []string, also ...string) error {
	values := env.ToMap(environ)
	var problems []error
	if err := env.ParseWithOptions(target, env.Options{Environment: values}); err != nil {
		problems = append(problems, describe(err)...)
	}
	known, err := Names(target)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	for name := range values {
		if strings.HasPrefix(name, Prefix) && !slices.Contains(known, name) && !slices.Contains(also, name) {
			problems = append(problems, fmt.Errorf("%s is not a setting (known: %s)", name, strings.Join(known, ", ")))
		}
	}
	if len(problems) == 0 {
		problems = append(problems, target.Validate())
	}
	return errors.Join(problems...)
}

// Names lists the variables that target, a pointer to a struct with env tags, reads.
func Names(target any) ([]string, error) {
	fields, err := env.GetFieldParams(target)
	if err != nil {
		return nil, fmt.Errorf("list settings: %w", err)
	}
	names := make([]string, 0, len(fields))
	for _, field := range fields {
		names = append(names, field.Key)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func describe(err error) []error {
	if all, ok := errors.AsType[env.AggregateError](err); ok {
		return all.Errors
	}
	return []error{err}
}

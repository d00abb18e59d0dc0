// Command reference writes what is generated from the descriptions of the components: make docs.
package main

import (
	"context"
	"os"

	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/tests/internal/reference"
	"github.com/galley-engine/galley/tests/internal/repository"
)

func main() {
	os.Exit(lifecycle.Main("reference", os.Stderr, func(context.Context) error {
		root, err := repository.Root()
		if err != nil {
			return err
		}
		return reference.Write(root)
	}))
}

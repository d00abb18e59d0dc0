// Package repository finds the files of the repository that the tests look at from outside.
package repository

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// marker is a file at the root of the repository only.
const marker = "go.work"

// Root is the absolute path of the repository, found by going up from the working directory.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, marker))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("find the repository: %w", err)
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no %s in %s or above it: run this inside the repository", marker, start)
		}
	}
}

module github.com/galley-engine/galley/recipes

go 1.26.0

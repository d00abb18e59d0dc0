module github.com/galley-engine/galley/schemas

go 1.26.0

// Package deploy holds no code, only tests: that the files beside the code say what the code does. docker-compose.yml,
// Dockerfile and .env.example agree with one another and with the binary that they run; docs/dependencies.md with go.mod.
// They need no Docker.
package deploy

// Package deploy holds no code, only tests: that docker-compose.yml, Dockerfile and .env.example agree with one another
// and with the binary that they run. They need no Docker.
package deploy

// The GraphQL-over-HTTP audits of graphql-http against a server: node audit.mjs URL. Writes what each came to.
import { auditServer } from 'graphql-http'

const results = await auditServer({ url: process.argv[2] })
process.stdout.write(JSON.stringify(results.map((r) => ({ id: r.id, name: r.name, status: r.status, reason: r.reason }))))

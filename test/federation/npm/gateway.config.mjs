// The gateway subscribes to us over a WebSocket, as the tenant that the test has.
export const gatewayConfig = {
  transportEntries: {
    notifyql: {
      options: {
        subscriptions: { kind: 'ws', location: '/graphql', options: { connectionParams: { tenantId: 'acme' } } },
      },
    },
  },
}

// Publishes readings and talks to itself, once in each version of MQTT. Arguments: port, readings in each version, how
// (mqtt, ws, wss), and the authority that vouches for the server.
const assert = require('assert')
const fs = require('fs')
const mqtt = require('mqtt')

const [port, readings] = process.argv.slice(2, 4).map(Number)
const [protocol, authority] = process.argv.slice(4)
const ca = authority && fs.readFileSync(authority)
setTimeout(() => { throw new Error('too slow') }, 25000).unref()

function client (name, protocolVersion) {
  return mqtt.connectAsync({ protocol, host: '127.0.0.1', port, ca, clientId: name, protocolVersion, reconnectPeriod: 0 })
}

async function talk (version, first) {
  const panel = await client('panel', version)
  const sensor = await client('sensor', version)
  const seen = []
  const complete = new Promise((resolve) => {
    panel.on('message', (topic, payload, packet) => {
      seen.push([topic, payload.toString(), packet.retain])
      if (seen.length === readings + 1) resolve()
    })
  })
  await sensor.publishAsync('state/press', 'on', { qos: 1, retain: true })
  await panel.subscribeAsync(['state/+', 'plant/+/state'], { qos: 1 })
  const payload = (n) => JSON.stringify({ ts: first + n, v: n })
  const sent = []
  for (let n = 0; n < readings; n++) {
    sent.push(sensor.publishAsync('plant/js/state', payload(n), { qos: 1 + n % 2 }))
  }
  await Promise.all(sent)
  await complete
  assert.deepStrictEqual(seen[0], ['state/press', 'on', true])
  assert.deepStrictEqual(seen.slice(1).map((one) => one[1]), [...Array(readings).keys()].map(payload))
  await panel.endAsync()
  await sensor.endAsync()
}

talk(4, 1700000000000)
  .then(() => talk(5, 1700001000000))
  .catch((error) => { console.error(error); process.exit(1) })

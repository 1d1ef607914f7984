'use strict';
/* The PostgreSQL driver as the engine needs it. */

const { Client, Pool } = require('pg');

const TEXT = 25;
const TEXT_ARRAY = 1009;
// Types of PostgreSQL's own catalogs. Prisma's adapter refuses a column that has one; the native engine reads them as text.
const READ_AS = new Map([
  [18, TEXT], // "char"
  [19, TEXT], // name
  [24, TEXT], // regproc
  [705, TEXT], // unknown
  [2205, TEXT], // regclass
  [2206, TEXT], // regtype
  [2278, TEXT], // void
  [1002, TEXT_ARRAY], // "char"[]
  [1003, TEXT_ARRAY], // name[]
]);
const readAs = (type) => READ_AS.get(type) || type;

function readable(result) {
  for (const field of (result && result.fields) || []) field.dataTypeID = readAs(field.dataTypeID);
  return result;
}

class CatalogClient extends Client {
  query(config, values, callback) {
    if (config.types) {
      const { types } = config;
      config = { ...config, types: { getTypeParser: (type, format) => types.getTypeParser(readAs(type), format) } };
    }
    if (typeof callback === 'function') {
      return super.query(config, values, (error, result) => callback(error, readable(result)));
    }
    const running = super.query(config, values);
    return running && typeof running.then === 'function' ? running.then(readable) : running;
  }
}

function openPool(options) {
  const pool = new Pool({ ...options, Client: CatalogClient });
  // Without a listener, an idle connection that the server closes would end this process.
  pool.on('error', (error) => console.error('query-engine: idle connection:', error.message));
  return pool;
}

module.exports = { openPool };

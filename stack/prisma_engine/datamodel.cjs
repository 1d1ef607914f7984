'use strict';
/* What the translation has to know of the Prisma schema: the type of each field, by model. */

function fieldTypes(schema) {
  const models = new Map();
  for (const [, model, body] of schema.matchAll(/^model\s+(\w+)\s*\{([\s\S]*?)^\}/gm)) {
    const fields = [...body.matchAll(/^\s*(\w+)\s+(\w+)(?:\[\])?\??/gm)].map(([, field, type]) => [field, type]);
    models.set(model, new Map(fields));
  }
  return models;
}

module.exports = { fieldTypes };

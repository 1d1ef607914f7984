'use strict';
/* The two protocols of Prisma's query engine.
 *
 * The executable that prisma-client-py expects takes GraphQL documents. The WebAssembly build takes the JSON protocol and
 * marks values that JSON has no type for as {"$type": ..., "value": ...}. Requests are translated one way, answers the other.
 */

// Longest first where one is the beginning of another: findFirstOrThrow before findFirst.
const ACTIONS = [
  'findUniqueOrThrow', 'findFirstOrThrow', 'findUnique', 'findFirst', 'findMany', 'createOne', 'createMany', 'updateOne',
  'updateMany', 'upsertOne', 'deleteOne', 'deleteMany', 'aggregate', 'groupBy',
];
const RAW = new Set(['queryRaw', 'executeRaw']);

/** "findUniqueTeamOrThrow" names an action and a model: {action: "findUniqueOrThrow", modelName: "Team"}. */
function operationOf(name) {
  if (RAW.has(name)) return { action: name };
  for (const action of ACTIONS) {
    const suffix = action.endsWith('OrThrow') ? 'OrThrow' : '';
    const prefix = action.slice(0, action.length - suffix.length);
    if (name.startsWith(prefix) && name.endsWith(suffix) && name.length > action.length) {
      return { action, modelName: name.slice(prefix.length, name.length - suffix.length) };
    }
  }
  throw new Error(`unknown operation ${name}`);
}

function valueOf(node) {
  switch (node.kind) {
    case 'IntValue': {
      const number = Number(node.value);
      return Number.isSafeInteger(number) ? number : { $type: 'BigInt', value: node.value };
    }
    case 'FloatValue':
      return Number(node.value);
    case 'StringValue':
    case 'EnumValue':
    case 'BooleanValue':
      return node.value;
    case 'NullValue':
      return null;
    case 'ListValue':
      return node.values.map(valueOf);
    case 'ObjectValue':
      return Object.fromEntries(node.fields.map((field) => [field.name.value, valueOf(field.value)]));
    default:
      throw new Error(`unsupported GraphQL value ${node.kind}`);
  }
}

const argumentsOf = (field) =>
  Object.fromEntries((field.arguments || []).map((argument) => [argument.name.value, valueOf(argument.value)]));

function selectionOf(field) {
  const children = field.selectionSet ? field.selectionSet.selections : [];
  return Object.fromEntries(
    children.map((child) => {
      const plain = !child.selectionSet && child.arguments.length === 0;
      return [child.name.value, plain || { arguments: argumentsOf(child), selection: selectionOf(child) }];
    }),
  );
}

const isObject = (value) => value !== null && typeof value === 'object';
const mapObject = (object, convert) =>
  Object.fromEntries(Object.entries(object).map(([key, value]) => [key, convert(key, value)]));

// In GraphQL these three are bare words, and the engine's own in both protocols.
const NULL_TYPES = new Set(['DbNull', 'JsonNull', 'AnyNull']);
// Below these keys of a JSON field stands JSON again; other keys (path, string_contains, ...) hold plain values.
const JSON_OPERATORS = new Set(['set', 'equals', 'not', 'array_contains', 'array_starts_with', 'array_ends_with']);

function markJson(value) {
  if (typeof value === 'string') return NULL_TYPES.has(value) ? value : { $type: 'Json', value };
  if (Array.isArray(value)) return value.map(markJson);
  if (!isObject(value)) return value;
  return mapObject(value, (key, item) => (JSON_OPERATORS.has(key) ? markJson(item) : item));
}

/** Mark the strings that stand for JSON, following relations from model to model. */
function markArguments(value, model, models) {
  if (Array.isArray(value)) return value.map((item) => markArguments(item, model, models));
  if (!isObject(value) || value.$type) return value;
  return mapObject(value, (key, item) => {
    const type = models.get(model)?.get(key);
    return type === 'Json' ? markJson(item) : markArguments(item, models.has(type) ? type : model, models);
  });
}

/** A parsed GraphQL document → the name its answer goes under, and the query for the engine. */
function toQuery(document, models) {
  const [root] = document.definitions[0].selectionSet.selections;
  const operation = operationOf(root.name.value);
  const given = argumentsOf(root);
  return {
    alias: (root.alias || root.name).value,
    query: {
      ...operation,
      query: {
        arguments: operation.modelName ? markArguments(given, operation.modelName, models) : given,
        selection: selectionOf(root),
      },
    },
  };
}

function unmark(value) {
  if (Array.isArray(value)) return value.map(unmark);
  if (!isObject(value)) return value;
  if (typeof value.$type === 'string' && 'value' in value) return value.value;
  return mapObject(value, (_, item) => unmark(item));
}

/** The engine's answer under the name that the client asked for. Raw results carry their column types and stay as they are. */
function toAnswer(alias, data) {
  const [name] = Object.keys(data);
  return { [alias]: RAW.has(name) ? data[name] : unmark(data[name]) };
}

module.exports = { toQuery, toAnswer, operationOf };
